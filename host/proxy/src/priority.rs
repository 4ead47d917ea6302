//! How important a request is to us, and what its upstream is told of that.

use std::sync::{Arc, LazyLock};

use fusebox_resilience::config::Problems;
use fusebox_resilience::{CallKey, PriorityClass, PriorityLevel, Request, UserCall, UserTimes};
use http::{HeaderName, HeaderValue};

use crate::config::PriorityConfig;

/// A value for each level, for ever: workers that cloned shared ones would contend on their counts.
static NUMBERS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let number = |number: usize| HeaderValue::from_static(number.to_string().leak());
    (0..PriorityLevel::COUNT).map(number).collect()
});

/// Says how important requests are.
#[derive(Clone, Debug)]
pub struct PriorityRules {
    header: HeaderName,
    level_header: HeaderName,
    default: PriorityClass,
    users: Option<Arc<UserTimes>>,
}

impl PriorityRules {
    /// As the configuration has it, which is valid.
    pub fn new(config: &PriorityConfig) -> Self {
        let PriorityConfig { header, level_header, default, user, max_users } = config.clone();
        let users = user.map(|user| {
            let key = user.of_request("user", &mut Problems::default());
            UserTimes::new(key, max_users.unwrap_or(PriorityConfig::MAX_USERS))
        });
        Self { header, level_header, default, users }
    }

    /// Whose request it is; `None`: nobody asks.
    pub fn user(&self) -> Option<&CallKey> {
        self.users.as_deref().map(UserTimes::key)
    }

    /// Gives a request its level, of which it tells its upstream. Only a client that is trusted is
    /// listened to; its route overrides the class. Returns whose call it is, if that counts.
    pub fn apply(
        &self,
        request: &mut Request,
        is_trusted: bool,
        of_route: Option<PriorityClass>,
    ) -> Option<UserCall> {
        let headers = &request.head().headers;
        let said = |name| headers.get(name).filter(|_| is_trusted)?.to_str().ok();
        let level = said(&self.level_header).and_then(PriorityLevel::parse);
        let class = || said(&self.header).and_then(PriorityClass::parse).unwrap_or(self.default);
        let id = request.id_header().as_bytes();
        // A hop before has had its say about the user.
        let user = self.users.as_ref().filter(|_| level.is_none());
        let user = user.and_then(|users| users.call(request));
        let level = match (level, &user) {
            (Some(level), _) => level,
            (None, None) => PriorityLevel::of_request(class(), id),
            (None, Some(user)) => {
                let place = user.quantile(PriorityLevel::chance_of(id));
                PriorityLevel::of_place(class(), place)
            }
        };
        let level = of_route.map_or(level, |class| level.in_class(class));
        let class = HeaderValue::from_static(level.class().name());
        request.set_header(&self.header, class);
        let number = NUMBERS[usize::from(level.number())].clone();
        request.set_header(&self.level_header, number);
        request.set_level(Some(level));
        user
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn rules(default: PriorityClass) -> PriorityRules {
        PriorityRules::new(&PriorityConfig { default, ..Default::default() })
    }

    fn headers(said: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        said.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    fn request(id: &str, headers: HeaderMap) -> Request {
        let mut head = http::Request::new(()).into_parts().0;
        head.headers = headers;
        let id = HeaderValue::from_str(id).expect("a value");
        Request::new(id, "test".into(), head, SystemTime::UNIX_EPOCH)
    }

    /// What is sent on of what was said.
    fn sent(said: &[(&'static str, &str)], is_trusted: bool, route: Option<u8>) -> String {
        let mut request = request("1", headers(said));
        let of_route = route.map(|class| PriorityClass::ALL[usize::from(class)]);
        let user = rules(PriorityClass::Medium).apply(&mut request, is_trusted, of_route);
        assert!(user.is_none());
        let (level, headers) = (request.level().expect("a level"), &request.head().headers);
        let text = |name| headers[name].to_str().expect("text").to_owned();
        let (class, number) = (text("x-fusebox-priority"), text("x-fusebox-level"));
        assert_eq!(number, level.number().to_string());
        assert_eq!(headers.len(), 2, "{headers:?}");
        format!("{class} {number}")
    }

    #[test]
    fn a_trusted_client_says_it_a_route_overrides_it_and_nonsense_is_the_default() {
        let class = "x-fusebox-priority";
        let level = "x-fusebox-level";
        assert_eq!(sent(&[], true, None), "medium 232");
        assert_eq!(sent(&[(class, "high")], true, None), "high 332");
        assert_eq!(sent(&[(class, "0")], true, None), "very-low 32");
        assert_eq!(sent(&[(class, "17")], true, None), "very-high 432");
        assert_eq!(sent(&[(class, "urgent")], true, None), "medium 232");
        assert_eq!(sent(&[(class, "low"), (level, "77")], true, None), "very-low 77");
        assert_eq!(sent(&[(class, "low"), (level, "9999")], true, None), "very-high 499");
        assert_eq!(sent(&[(class, "low"), (level, "much")], true, None), "low 132");
        assert_eq!(sent(&[(class, "high"), (level, "377")], false, None), "medium 232");
        assert_eq!(sent(&[(level, "377")], true, Some(1)), "low 177");
        assert_eq!(sent(&[(class, "high")], true, Some(4)), "very-high 432");
    }

    proptest! {
        /// However the hops are set up, as long as they trust each other and none overrides it.
        #[test]
        fn a_request_has_the_same_level_at_every_hop(
            id in "[!-~]{1,128}",
            said in "[0-5]|low|high|x",
            defaults in prop::collection::vec(0..5usize, 1..5),
        ) {
            let mut request = request(&id, headers(&[("x-fusebox-priority", &said)]));
            let levels: Vec<_> = defaults.into_iter().map(|default| {
                rules(PriorityClass::ALL[default]).apply(&mut request, true, None);
                request.level()
            }).collect();
            prop_assert!(levels.iter().all(|level| *level == levels[0]), "{:?}", levels);
        }
    }
}

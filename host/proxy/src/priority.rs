//! How important a request is to us, and what its upstream is told of that.

use std::sync::LazyLock;

use fusebox_resilience::{PriorityClass, PriorityLevel};
use http::{HeaderMap, HeaderName, HeaderValue};

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
}

impl PriorityRules {
    /// As the configuration has it.
    pub fn new(config: &PriorityConfig) -> Self {
        let PriorityConfig { header, level_header, default } = config.clone();
        Self { header, level_header, default }
    }

    /// The level of the request with this id and these headers, which from then on tell the
    /// upstream. Only a client that is trusted is listened to; its route overrides the class.
    pub fn level(
        &self,
        headers: &mut HeaderMap,
        is_trusted: bool,
        of_route: Option<PriorityClass>,
        id: &HeaderValue,
    ) -> PriorityLevel {
        let said = |name| headers.get(name).filter(|_| is_trusted)?.to_str().ok();
        let level = said(&self.level_header).and_then(PriorityLevel::parse).unwrap_or_else(|| {
            let class = said(&self.header).and_then(PriorityClass::parse);
            PriorityLevel::of_request(class.unwrap_or(self.default), id.as_bytes())
        });
        let level = of_route.map_or(level, |class| level.in_class(class));
        let class = HeaderValue::from_static(level.class().name());
        headers.insert(&self.header, class);
        headers.insert(&self.level_header, NUMBERS[usize::from(level.number())].clone());
        level
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(default: PriorityClass) -> PriorityRules {
        PriorityRules::new(&PriorityConfig { default, ..Default::default() })
    }

    fn headers(said: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        said.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    /// What is sent on of what was said.
    fn sent(said: &[(&'static str, &str)], is_trusted: bool, route: Option<u8>) -> String {
        let mut headers = headers(said);
        let of_route = route.map(|class| PriorityClass::ALL[usize::from(class)]);
        let id = HeaderValue::from_static("1");
        let level = rules(PriorityClass::Medium).level(&mut headers, is_trusted, of_route, &id);
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
            let id = HeaderValue::from_str(&id).expect("a value");
            let mut headers = headers(&[("x-fusebox-priority", &said)]);
            let levels: Vec<_> = defaults.into_iter().map(|default| {
                rules(PriorityClass::ALL[default]).level(&mut headers, true, None, &id)
            }).collect();
            prop_assert!(levels.iter().all(|level| *level == levels[0]), "{:?}", levels);
        }
    }
}

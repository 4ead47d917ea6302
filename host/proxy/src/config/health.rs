//! When an endpoint of several gets no requests for now.

use std::ops::RangeInclusive;

use fusebox_resilience::config::ConfigDuration;
use http::uri::PathAndQuery;

use super::table::{Keys, Reader, defaults, table};
use super::tables::SHORTEST;

/// The longest name of a service.
const LONGEST_SERVICE: usize = 255;

table! {
    /// `[upstreams.NAME.health]`
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct HealthConfig {
        /// So many failures in a row eject an endpoint. 0: none is ejected.
        pub consecutive: u32 = at_most(5, 1000),
        /// How long the first ejection lasts; each further one twice as long,
        pub base: ConfigDuration = at_least(ConfigDuration::from_secs(5), SHORTEST),
        /// and at most so long.
        pub max: ConfigDuration = at_least(ConfigDuration::from_secs(300), SHORTEST),
        /// The part of the endpoints that may be ejected at once; one may always be.
        pub max_ejection_percent: u32 = within(50, 0..=100),
        /// What is asked for to check an endpoint. Default: endpoints are not checked.
        pub path: Option<PathAndQuery> = parsed(target),
        /// The service that is asked for its health by gRPC, to check an endpoint; "" is the whole
        /// server. Default: it is not asked.
        pub grpc: Option<String> = parsed(service),
        /// How often.
        pub interval: ConfigDuration = at_least(ConfigDuration::from_secs(5), SHORTEST),
        /// How long a check may take.
        pub timeout: ConfigDuration = at_least(ConfigDuration::from_secs(1), SHORTEST),
        /// The statuses that pass.
        pub expect: Vec<StatusRange> = statuses(),
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        defaults()
    }
}

/// Statuses from one to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// Whether this status is one of them.
    pub fn has(&self, status: u16) -> bool {
        self.0.contains(&status)
    }

    /// Parses `200`, `2xx` or `200-399`.
    fn parse(text: &str) -> Result<Self, String> {
        let status = |text: &str| text.parse().ok().filter(|status| (100..600).contains(status));
        let class = text.strip_suffix("xx").and_then(|class| class.parse().ok());
        let class = class.filter(|class| (1..6u16).contains(class));
        let range = match (class, text.split_once('-')) {
            (Some(class), _) => Some(class * 100..=class * 100 + 99),
            (None, Some((first, last))) => status(first).zip(status(last)).map(|(a, b)| a..=b),
            (None, None) => status(text).map(|status| status..=status),
        };
        range.filter(|range| !range.is_empty()).map(Self).ok_or_else(|| {
            format!("expected a status such as \"200\", \"2xx\" or \"200-399\", found `{text}`")
        })
    }
}

fn service(text: &str) -> Result<String, String> {
    let is_name = text.len() <= LONGEST_SERVICE
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    let expected = "expected the name of a service such as \"example.Orders\", or \"\" for all";
    if is_name { Ok(text.to_owned()) } else { Err(format!("{expected}, found `{text}`")) }
}

fn target(text: &str) -> Result<PathAndQuery, String> {
    let parsed = text.parse().ok().filter(|_| text.starts_with('/'));
    parsed.ok_or_else(|| format!("expected a path such as \"/healthz\", found `{text}`"))
}

impl Keys<'_, '_> {
    fn statuses(&mut self, key: &str) -> Option<Vec<StatusRange>> {
        let path = self.path_of(key);
        if self.is_there(key) && self.reader.document.length(&path, "a list") == Ok(0) {
            self.reader.error(&path, "an empty list takes no answer");
        }
        let listed = self.list(key, StatusRange::parse)?;
        Some(listed.unwrap_or_else(|| vec![StatusRange(200..=299)]))
    }
}

impl HealthConfig {
    /// Reports what does not go together in the table at `path`.
    pub(super) fn check(&self, reader: &mut Reader<'_>, path: &str) {
        let Self { base, max, .. } = self;
        if base.0 > max.0 {
            let message = format!("must be at most `max`, which is {max}, is {base}");
            reader.error(&format!("{path}.base"), message);
        }
        let has = |reader: &Reader<'_>, key: &str| {
            reader.document.value(&format!("{path}.{key}")).is_some()
        };
        let (has_path, has_grpc) = (has(reader, "path"), has(reader, "grpc"));
        if has_path && has_grpc {
            reader.error(&format!("{path}.grpc"), "there is a `path`, too; a check asks for one");
        }
        for key in ["interval", "timeout"] {
            if has(reader, key) && !has_path && !has_grpc {
                let message = "is of checks, which need a `path`, or `grpc`";
                reader.error(&format!("{path}.{key}"), message);
            }
        }
        if has(reader, "expect") && !has_path {
            reader.error(&format!("{path}.expect"), "is of checks, which need a `path`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_class_or_a_range() {
        let has = |text: &str, status| StatusRange::parse(text).unwrap().has(status);
        assert!(has("204", 204) && !has("204", 200));
        assert!(has("2xx", 200) && has("2xx", 299) && !has("2xx", 300));
        assert!(has("200-399", 302) && !has("200-399", 400));
        for wrong in ["", "xx", "6xx", "99", "600", "300-200", "200-", "ok", "-1"] {
            assert!(StatusRange::parse(wrong).is_err(), "{wrong}");
        }
    }
}

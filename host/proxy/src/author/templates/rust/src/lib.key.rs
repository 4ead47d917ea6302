//! Tells calls apart by the beginning of their path: as many segments as the setting `segments` says
//! (default 1). A shorter path is nobody's.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use exports::fusebox::policy::key;
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

struct Guest;

export!(Guest);

// Settings don't change while an instance lives, so each is read once. A panic ends the call: the
// host logs its message, and the call has no key.
static SEGMENTS: LazyLock<usize> = LazyLock::new(|| {
    setting("segments", 1, "a whole number").unwrap_or_else(|error| panic!("{error}"))
});

impl key::Guest for Guest {
    fn key() -> Option<String> {
        let target = attempt::path_with_query();
        let path = target.split('?').next().unwrap_or_default();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        Some(segments.get(..*SEGMENTS)?.join("/"))
    }
}

/// A setting that is not what it should be.
#[derive(Debug)]
struct SettingError {
    name: &'static str,
    expected: &'static str,
    found: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting `{}`: expected {}, found `{}`", self.name, self.expected, self.found)
    }
}

impl std::error::Error for SettingError {}

fn setting<T: FromStr>(
    name: &'static str,
    default: T,
    expected: &'static str,
) -> Result<T, SettingError> {
    match settings::get(name) {
        None => Ok(default),
        Some(found) => found.parse().map_err(|_| SettingError { name, expected, found }),
    }
}

//! Takes a response for a failure if it has the status of the setting `status` (default 503) and
//! says when to come back.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use exports::fusebox::policy::predicate;
use fusebox::policy::types::Outcome;
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

struct Guest;

export!(Guest);

// Settings don't change while an instance lives, so each is read once. A panic ends the call: the
// host logs its message, and the `on_error` of the component decides.
static STATUS: LazyLock<u16> =
    LazyLock::new(|| setting("status", 503, "a status").unwrap_or_else(|error| panic!("{error}")));

impl predicate::Guest for Guest {
    fn handle_if(outcome: Outcome) -> bool {
        match outcome {
            Outcome::Response(status) => {
                status == *STATUS && attempt::response_header("retry-after").is_some()
            }
            Outcome::Failure(_) => false,
        }
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

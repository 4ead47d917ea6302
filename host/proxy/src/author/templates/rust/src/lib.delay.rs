//! Waits for as long as a response with the status of the setting `status` (default 429) says in its
//! header `x-wait-ms`, in place of the policy's own delay.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use exports::fusebox::policy::delay::{self, Decision};
use fusebox::policy::types::Outcome;
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

struct Guest;

export!(Guest);

// Settings don't change while an instance lives, so each is read once. A panic ends the call: the
// host logs its message, and the policy's own delay holds.
static STATUS: LazyLock<u16> =
    LazyLock::new(|| setting("status", 429, "a status").unwrap_or_else(|error| panic!("{error}")));

impl delay::Guest for Guest {
    fn after(outcome: Outcome, _own_ms: u32, _count: u32) -> Decision {
        match outcome {
            Outcome::Response(status) if status == *STATUS => {
                let wait = attempt::response_header("x-wait-ms").and_then(|text| text.parse().ok());
                wait.map_or(Decision::Own, Decision::Wait)
            }
            _ => Decision::Own,
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

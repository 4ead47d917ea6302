//! A predicate: takes a response for a failure if it has the status of the setting `status`
//! (default 503) and says when to come back.
//!
//! A fallback: answers 503 in its place, with the reason, and `Retry-After` from the setting
//! `retry-after` (default 5).

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use exports::fusebox::policy::{fallback, predicate};
use fusebox::policy::types::{Content, Header, Outcome, Response};
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

struct Guest;

export!(Guest);

// Settings don't change while an instance lives, so each is read once. A panic ends the call: the
// host logs its message, and then `on_error` decides, or the fallback declines.
static STATUS: LazyLock<u16> =
    LazyLock::new(|| setting("status", 503, "a status").unwrap_or_else(|error| panic!("{error}")));
static RETRY_AFTER: LazyLock<u32> = LazyLock::new(|| {
    setting("retry-after", 5, "whole seconds").unwrap_or_else(|error| panic!("{error}"))
});

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

impl fallback::Guest for Guest {
    fn respond(outcome: Outcome) -> Option<Response> {
        let reason = match outcome {
            Outcome::Response(status) => format!("status {status}"),
            Outcome::Failure(_) => {
                attempt::failure_detail().unwrap_or_else(|| "no response".into())
            }
        };
        Some(Response {
            status: 503,
            headers: vec![
                header("content-type", "text/plain; charset=utf-8"),
                header("retry-after", &RETRY_AFTER.to_string()),
            ],
            body: Content::Text(format!("the upstream failed: {reason}\n")),
        })
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
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

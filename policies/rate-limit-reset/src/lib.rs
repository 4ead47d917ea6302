//! Many APIs say in headers of their own when they have room again: waits for that, in place of
//! the policy's own delay.
//!
//! It knows the headers of OpenAI, and of those that speak like it: `x-ratelimit-remaining-requests:
//! 0` with `x-ratelimit-reset-requests: 1s`, and the same for `tokens`. The setting `kinds` names
//! others. What is used up for the longest time counts. (`Retry-After` and `retry-after-ms` are
//! obeyed by the policies themselves.)
//!
//! Where the answer says that a quota is used up, no wait helps: it gives up. For that it sees as
//! much of the body as `peek_body` of the component allows.

use std::sync::LazyLock;

use exports::fusebox::policy::delay::{self, Decision};
use fusebox::policy::types::Outcome;
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "../../wit", world: "delay-policy" });

struct RateLimitReset;

export!(RateLimitReset);

/// Read once: settings don't change while an instance lives.
static KINDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = settings::get("kinds").unwrap_or_else(|| "requests, tokens".into());
    let kinds: Vec<String> = list.split(',').map(|kind| kind.trim().to_owned()).collect();
    let is_kind = |kind: &String| {
        !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if let Some(kind) = kinds.iter().find(|kind| !is_kind(kind)) {
        panic!("setting `kinds`: expected ends of header names between commas, found `{kind}`");
    }
    kinds
});

impl delay::Guest for RateLimitReset {
    fn after(outcome: Outcome, _own_ms: u32, _count: u32) -> Decision {
        // A setting that makes no sense shows when the component starts, not with the first error.
        let kinds = &*KINDS;
        if !matches!(outcome, Outcome::Response(429)) {
            return Decision::Own;
        }
        let body = attempt::response_body_text().unwrap_or_default();
        if body.contains("\"insufficient_quota\"") {
            return Decision::GiveUp;
        }
        let resets = kinds.iter().filter_map(|kind| {
            let remaining = attempt::response_header(&format!("x-ratelimit-remaining-{kind}"))?;
            let reset = attempt::response_header(&format!("x-ratelimit-reset-{kind}"))?;
            if remaining.trim() == "0" { milliseconds(reset.trim()) } else { None }
        });
        resets.max().map_or(Decision::Own, Decision::Wait)
    }
}

/// A time such as `6m0s`, `1.5s` or `20ms`, rounded up. `None`: it is none.
fn milliseconds(text: &str) -> Option<u32> {
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit);
        let (factor, after) = [("ms", 1.0), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1_000.0)]
            .into_iter()
            .find_map(|(unit, factor)| Some((factor, after.strip_prefix(unit)?)))?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    // It saturates.
    if text.is_empty() { None } else { Some(sum.ceil() as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        for (text, expected) in [
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("20ms", Some(20)),
            ("176.2ms", Some(177)),
            ("0s", Some(0)),
            ("9999999h", Some(u32::MAX)),
            ("", None),
            ("soon", None),
            ("1", None),
            ("1.2.3s", None),
            ("1d", None),
            ("-1s", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }
}

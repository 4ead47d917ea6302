//! `Retry-After` (RFC 9110, section 10.2.3) in both its forms, as seconds and as a date, on the
//! statuses where it tells a client to come back: 429 and 503.

use std::time::Duration;

use crate::call::Call;
use crate::outcome::{Outcome, Response};

/// How long the upstream asks to be left alone. None: it does not ask, or not in a form that is
/// valid.
pub(crate) fn requested_delay(call: &Call, outcome: &Outcome) -> Option<Duration> {
    let response =
        outcome.as_ref().ok().filter(|response| matches!(response.status.as_u16(), 429 | 503))?;
    parse(call, response)
}

fn parse(call: &Call, response: &Response) -> Option<Duration> {
    let value = response.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than a number holds: certainly longer than anyone waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // A date that has passed asks for nothing.
    Some(date.duration_since(call.wall_clock()).unwrap_or_default())
}

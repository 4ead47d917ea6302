//! The `Date` of responses that have none (RFC 9110, section 6.6.1).

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use fusebox_resilience::clock;
use http::HeaderValue;
use tokio::time::Instant;

use crate::observe::wall_clock;

/// A worker's date, which is made anew once a second.
#[derive(Debug)]
pub(super) struct Dates {
    value: RefCell<HeaderValue>,
    /// When the next second begins.
    until: Cell<Instant>,
}

impl Default for Dates {
    fn default() -> Self {
        let value = RefCell::new(HeaderValue::from_static(""));
        Self { value, until: Cell::new(clock::now()) }
    }
}

impl Dates {
    pub(super) fn now(&self) -> HeaderValue {
        let now = clock::now();
        if now >= self.until.get() {
            let (value, left) = date(wall_clock::now());
            self.value.replace(value);
            self.until.set(now + left);
        }
        self.value.borrow().clone()
    }
}

/// A date, and how long it is right.
fn date(now: SystemTime) -> (HeaderValue, Duration) {
    let value = HeaderValue::try_from(httpdate::fmt_http_date(now));
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
    (value.expect("a date is a valid value"), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_right_until_the_next_second() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let (value, left) = date(now);
        assert_eq!(value, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(left, Duration::from_millis(750));
    }

    #[tokio::test(start_paused = true)]
    async fn a_date_is_made_once_a_second() {
        let dates = Dates::default();
        let first = dates.now();
        assert!(std::ptr::eq(first.as_bytes(), dates.now().as_bytes()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!std::ptr::eq(first.as_bytes(), dates.now().as_bytes()));
    }
}

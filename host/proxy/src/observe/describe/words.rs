//! Times, outcomes and failures as descriptions have them.

use std::fmt;
use std::time::Duration;

use fusebox_resilience::{AttemptOutcome, ErrorKind};

use crate::observe::line::Line;

/// The word that conditions and metrics have for a failure, and that of RFC 9209.
pub(super) fn failure<'l, 'b>(line: &'l mut Line<'b>, kind: ErrorKind) -> &'l mut Line<'b> {
    line.field("failure", kind.failure().name()).field("error", kind.name())
}

/// For machines, to the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A delay for people: `0s`, `250ms`, `1.038s`. What jitter adds beyond three places is noise.
pub(super) struct Human(pub(super) Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            // Of no unit, and usual: writing it as the others took a sixth of a retry's line.
            return f.write_str("0s");
        }
        let unit = if self.0 >= Duration::from_secs(1) { 1_000_000 } else { 1_000 };
        let nanoseconds = (self.0.as_nanos() + unit / 2) / unit * unit;
        write!(f, "{:?}", Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

/// How an attempt ended, in a word or a few.
pub(super) struct Ended(pub(super) AttemptOutcome);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AttemptOutcome::Response(status) => status.fmt(f),
            AttemptOutcome::Failure(kind) => kind.fmt(f),
            AttemptOutcome::Cancelled => f.write_str("cancelled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_well() {
        let cases = [
            (Duration::from_secs(1), "1s"),
            (Duration::from_secs(60), "60s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_nanos(1_037_512_345), "1.038s"),
            (Duration::from_nanos(37_512_345), "37.512ms"),
            (Duration::from_nanos(999_999_999), "1s"),
            (Duration::ZERO, "0s"),
        ];
        for (delay, expected) in cases {
            assert_eq!(Human(delay).to_string(), expected);
        }
    }
}

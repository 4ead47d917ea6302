//! The one place that reads the wall clock.

use std::time::SystemTime;

/// The wall clock's time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

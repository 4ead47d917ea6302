//! How often the log tells of what anybody can make happen as often as he likes.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts something on one thread, to be told now and then.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    told: Cell<Option<Instant>>,
    /// Since then.
    untold: Cell<u64>,
}

impl Seldom {
    /// Counts one. Returns how many there were since the last that was told, if this is the time to
    /// tell.
    pub(crate) fn count(&self, now: Instant) -> Option<u64> {
        let count = self.untold.get() + 1;
        if self.told.get().is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            self.untold.set(count);
            return None;
        }
        self.told.set(Some(now));
        self.untold.set(0);
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_with_the_next() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let told =
            [0, 1, 9, 10, 11, 30].map(|second| seldom.count(start + Duration::from_secs(second)));
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}

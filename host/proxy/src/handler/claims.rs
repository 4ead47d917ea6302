//! How often the log tells of clients that say where their requests come from and are not trusted.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of a worker: who opens a connection for each request would flood the log.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts connections with such a claim.
#[derive(Debug, Default)]
pub(super) struct Claims {
    told: Cell<Option<Instant>>,
    /// Since then.
    untold: Cell<u64>,
}

impl Claims {
    /// Counts one. Returns how many there were since the last that was told, if this is the time to
    /// tell.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let connections = self.untold.get() + 1;
        if self.told.get().is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            self.untold.set(connections);
            return None;
        }
        self.told.set(Some(now));
        self.untold.set(0);
        Some(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_with_the_next() {
        let claims = Claims::default();
        let start = Instant::now();
        let told =
            [0, 1, 9, 10, 11, 30].map(|second| claims.count(start + Duration::from_secs(second)));
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}

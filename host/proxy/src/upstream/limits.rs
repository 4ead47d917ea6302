//! What all workers know of an endpoint's limits: how many attempts it has at once, with a line for
//! those that wait, and how many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use fusebox_resilience::room::{Entry, Place, Room};
use fusebox_resilience::{Call, Error, ErrorKind, Scope, clock};
use tokio::time::timeout;

use crate::config::UpstreamSettings;

/// So many may wait for each place, and 100 at least.
const WAITING: usize = 10;
const LEAST_WAITING: usize = 100;

/// The most connections of each worker, if the file says nothing.
const CONNECTIONS: usize = 1024;

/// An endpoint's limits, for all workers.
#[derive(Debug, Default)]
pub(super) struct EndpointLimits {
    /// `None`: there may be any number of attempts at once.
    in_flight: Option<Arc<Room>>,
    connections: AtomicUsize,
    /// Those that wait for a connection.
    waiting: AtomicUsize,
}

/// A worker's part of what all have together.
#[derive(Clone, Copy, Debug)]
pub struct WorkerShare {
    /// Which of the workers it is, from 0.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
}

impl WorkerShare {
    /// All of it.
    pub const WHOLE: Self = Self { worker: 0, workers: 1 };

    /// Its part of so many: one at least.
    fn of(self, total: usize) -> usize {
        let Self { worker, workers } = self;
        let one_more = usize::from(worker < total % workers);
        (total / workers + one_more).max(1)
    }

    /// So many connections to an endpoint this worker may have.
    pub(super) fn of_connections(self, settings: &UpstreamSettings) -> usize {
        settings.max_connections.map_or(CONNECTIONS, |total| self.of(total))
    }
}

impl EndpointLimits {
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        let in_flight = settings.max_in_flight.map(|places| Arc::new(Room::new(places)));
        Self { in_flight, ..Self::default() }
    }

    /// A place for an attempt, for which it waits up to `longest`. `None`: none is needed.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn enter(
        &self,
        call: &Call,
        scope: &Scope<'_>,
        longest: Duration,
    ) -> Result<Option<Place>, Error> {
        let Some(room) = &self.in_flight else { return Ok(None) };
        let now = clock::now();
        let left =
            scope.deadline(call).map_or(Duration::MAX, |end| end.saturating_duration_since(now));
        let longest = longest.min(left);
        match room.enter(most_waiting(room.places())) {
            Entry::Place(place) => Ok(Some(place)),
            // Boxed to keep the common path's future small.
            Entry::Line(line) => match Box::pin(timeout(longest, line)).await {
                Ok(Some(place)) => Ok(Some(place)),
                _ => Err(full("no place came free in time")),
            },
            Entry::Full => Err(full("too many wait for a place")),
        }
    }

    /// Whether all places for attempts are taken.
    pub(super) fn are_all_in_flight(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|room| room.taken() >= room.places())
    }

    /// Attempts under way, if they have a limit.
    pub(super) fn in_flight(&self) -> Option<usize> {
        self.in_flight.as_ref().map(|room| room.taken())
    }

    /// Connections that are open, or being made.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Those that wait for a place, or for a connection.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed) + self.in_flight.as_ref().map_or(0, |room| room.waiting())
    }

    pub(super) fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub(super) fn joined(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    pub(super) fn left(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

/// So many may wait where there are so many places.
pub(super) fn most_waiting(places: usize) -> usize {
    places.saturating_mul(WAITING).max(LEAST_WAITING)
}

/// Somebody is turned away: the endpoint was not asked.
pub(super) fn full(why: &'static str) -> Error {
    Error::new(ErrorKind::BulkheadFull).with_source(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_workers_are_the_whole_but_each_has_one() {
        let shares = |total, workers| -> Vec<_> {
            (0..workers).map(|worker| WorkerShare { worker, workers }.of(total)).collect()
        };
        assert_eq!(shares(10, 4), [3, 3, 2, 2]);
        assert_eq!(shares(8, 4), [2, 2, 2, 2]);
        assert_eq!(shares(2, 4), [1, 1, 1, 1]);
        assert_eq!(WorkerShare::WHOLE.of(7), 7);
    }
}

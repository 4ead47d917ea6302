//! The places of handshakes. When all are taken, the handshake that has lasted for longest gives
//! its place up: a client that goes on with its own ends it within a few round trips, and those who
//! do not must not keep others waiting.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// As many as there may be handshakes at once.
#[derive(Debug)]
pub(crate) struct HandshakePlaces {
    count: usize,
    taken: Mutex<TakenPlaces>,
}

#[derive(Debug, Default)]
struct TakenPlaces {
    next: u64,
    /// The oldest first. Whose sender is dropped has lost its place.
    holders: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The place of a handshake, until it is dropped or another needs it.
#[derive(Debug)]
pub(crate) struct HandshakePlace<'a> {
    places: &'a HandshakePlaces,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl HandshakePlaces {
    pub(super) fn new(count: usize) -> Self {
        Self { count, taken: Mutex::default() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// A place, and whether another has lost its own for it.
    pub(crate) fn take(&self) -> (HandshakePlace<'_>, bool) {
        let (holder, lost) = oneshot::channel();
        let mut taken = self.taken();
        let is_full = taken.holders.len() >= self.count;
        if is_full {
            taken.holders.pop_first();
        }
        let number = taken.next;
        taken.next += 1;
        taken.holders.insert(number, holder);
        (HandshakePlace { places: self, number, lost }, is_full)
    }

    fn taken(&self) -> MutexGuard<'_, TakenPlaces> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakePlace<'_> {
    /// Waits until another needs the place.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent.
        (&mut self.lost).await.ok();
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.places.taken().holders.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_gives_its_place_up() {
        let places = HandshakePlaces::new(2);
        let (first, is_full) = places.take();
        assert!(!is_full);
        let (mut second, is_full) = places.take();
        assert!(!is_full);
        drop(first);
        let (mut third, is_full) = places.take();
        assert!(!is_full, "one has ended");
        let (mut fourth, is_full) = places.take();
        assert!(is_full);
        assert!(second.lost().now_or_never().is_some());
        assert!(third.lost().now_or_never().is_none());
        drop(second);
        assert_eq!(places.taken().holders.len(), 2, "it had none to give back");
        let (fifth, is_full) = places.take();
        assert!(is_full);
        assert!(third.lost().now_or_never().is_some());
        assert!(fourth.lost().now_or_never().is_none());
        drop((third, fourth, fifth));
        assert!(places.taken().holders.is_empty());
    }
}

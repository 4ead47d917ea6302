//! The places for connections of clients, of all together and of each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many as there may be connections at once.
#[derive(Debug)]
pub struct ConnectionPlaces {
    count: usize,
    free: Arc<Semaphore>,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace(#[expect(dead_code, reason = "dropped")] OwnedSemaphorePermit);

impl ConnectionPlaces {
    pub(super) fn new(count: usize) -> Self {
        Self { count, free: Arc::new(Semaphore::new(count)) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.count - self.free.available_permits()
    }

    pub(super) fn try_take(&self) -> Option<ConnectionPlace> {
        self.free.clone().try_acquire_owned().ok().map(ConnectionPlace)
    }

    /// Waits until one is free.
    pub(super) async fn take(&self) -> Option<ConnectionPlace> {
        self.free.clone().acquire_owned().await.ok().map(ConnectionPlace)
    }
}

/// As many as there may be connections at once from each address. Those that have none take no
/// memory.
#[derive(Debug)]
pub(super) struct AddressPlaces {
    limit: usize,
    taken: Mutex<HashMap<AddressBlock, usize>>,
}

/// A place among those of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct AddressPlace {
    places: Arc<AddressPlaces>,
    block: AddressBlock,
}

/// Addresses that count as one: of IPv6 the first half, since a client may choose the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AddressBlock {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl AddressBlock {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl AddressPlaces {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: Mutex::default() }
    }

    /// `None`: all places of this address are taken.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let block = AddressBlock::of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(block).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(AddressPlace { places: self.clone(), block })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.block) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_limit_and_leaves_nothing() {
        let places = Arc::new(AddressPlaces::new(2));
        let take = |address: &str| places.take(address.parse().unwrap());
        let (first, second) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        let six = [take("2001:db8:0:1::1"), take("2001:db8:0:1:ffff::2")];
        assert!(take("2001:db8:0:1::3").is_none());
        assert!(take("2001:db8:0:2::1").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop((second, six));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}

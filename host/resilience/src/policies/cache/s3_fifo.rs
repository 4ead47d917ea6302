//! A map of bounded weight that forgets what is used least, by S3-FIFO (Yang et al., SOSP 2023):
//! newcomers pass through a small queue, and only what is asked for again there gets into the main
//! one. So a scan of many keys that are asked for once forgets nothing of worth.
//!
//! The crate `quick_cache` was tried. It has hashbrown compiled with another feature, and with that
//! all of wasmtime; this is what we need of it.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::PoisonError;

use super::key::CacheKey;
use crate::sync::{Mutex, MutexGuard};

/// The map is parted for so many who use it at once, if its heaviest entries leave so many parts:
const MOST_SHARDS: usize = 16;
/// each has room for so many of them.
const LEAST_ENTRIES: usize = 8;

/// The small queue has one part in so many of all.
const SMALL: usize = 10;
/// So many uses are remembered.
const MOST_USES: u8 = 3;

/// What an entry weighs. It stays the same.
pub(super) trait Weigh {
    fn weight(&self, key: &CacheKey) -> usize;
}

/// The map, for all threads.
#[derive(Debug)]
pub(super) struct WeighedMap<V> {
    shards: Box<[Mutex<S3Fifo<V>>]>,
    hasher: RandomState,
}

impl<V: Weigh + Clone> WeighedMap<V> {
    /// For this weight in all. The heaviest entry has `heaviest`.
    pub(super) fn new(capacity: usize, heaviest: usize) -> Self {
        let most = capacity / (LEAST_ENTRIES * heaviest).max(1);
        let count = most.clamp(1, MOST_SHARDS);
        let shard = || Mutex::new(S3Fifo::new(capacity / count));
        Self {
            shards: std::iter::repeat_with(shard).take(count).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, S3Fifo<V>> {
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }

    /// The value of a key, which has been used once more then.
    pub(super) fn get(&self, key: &CacheKey) -> Option<V> {
        self.shard(self.hasher.hash_one(key)).get(key)
    }

    /// The value of a key, without having been used.
    pub(super) fn peek(&self, key: &CacheKey) -> Option<V> {
        let shard = self.shard(self.hasher.hash_one(key));
        shard.slots.get(key).map(|slot| slot.value.clone())
    }

    /// Another value for a key, or none if that is too heavy for any.
    pub(super) fn insert(&self, key: CacheKey, value: V) {
        let hash = self.hasher.hash_one(&key);
        self.shard(hash).insert(key, hash, value);
    }

    /// Forgets a key.
    pub(super) fn remove(&self, key: &CacheKey) -> Option<V> {
        self.shard(self.hasher.hash_one(key)).remove(key)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            *shard = S3Fifo::new(shard.capacity);
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.len()).sum()
    }

    /// The weight of all.
    pub(super) fn weight(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).weight).sum()
    }
}

/// What is under the lock is whole whenever it is free.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The algorithm, for one thread.
#[derive(Debug)]
struct S3Fifo<V> {
    capacity: usize,
    slots: HashMap<CacheKey, WeighedSlot<V>>,
    weight: usize,
    small: KeyQueue,
    small_weight: usize,
    main: KeyQueue,
    /// Hashes of keys that were forgotten from the small queue, oldest first: if they come again,
    /// they were worth more.
    ghosts: VecDeque<u64>,
    is_ghost: HashSet<u64>,
    places: u64,
}

/// Keys by their places. One whose slot has another place was removed, or has moved.
type KeyQueue = VecDeque<(CacheKey, u64)>;

#[derive(Debug)]
struct WeighedSlot<V> {
    value: V,
    weight: usize,
    hash: u64,
    uses: u8,
    is_small: bool,
    place: u64,
}

impl<V: Weigh + Clone> S3Fifo<V> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: HashMap::new(),
            weight: 0,
            small: KeyQueue::new(),
            small_weight: 0,
            main: KeyQueue::new(),
            ghosts: VecDeque::new(),
            is_ghost: HashSet::new(),
            places: 0,
        }
    }

    fn get(&mut self, key: &CacheKey) -> Option<V> {
        let slot = self.slots.get_mut(key)?;
        slot.uses = (slot.uses + 1).min(MOST_USES);
        Some(slot.value.clone())
    }

    fn insert(&mut self, key: CacheKey, hash: u64, value: V) {
        let weight = value.weight(&key);
        let before = self.remove(&key);
        if weight > self.capacity {
            return;
        }
        let is_small = before.is_none() && !self.is_ghost.contains(&hash);
        let slot = WeighedSlot { value, weight, hash, uses: 0, is_small, place: 0 };
        self.weight += weight;
        self.enqueue(&key, slot);
        while self.weight > self.capacity {
            self.forget_one();
        }
        self.tidy();
    }

    /// Puts a slot at the end of its queue.
    fn enqueue(&mut self, key: &CacheKey, mut slot: WeighedSlot<V>) {
        self.places += 1;
        slot.place = self.places;
        let queue = if slot.is_small {
            self.small_weight += slot.weight;
            &mut self.small
        } else {
            &mut self.main
        };
        queue.push_back((key.clone(), slot.place));
        self.slots.insert(key.clone(), slot);
    }

    fn remove(&mut self, key: &CacheKey) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.weight -= slot.weight;
        if slot.is_small {
            self.small_weight -= slot.weight;
        }
        Some(slot.value)
    }

    /// Forgets one entry, or moves one on.
    fn forget_one(&mut self) {
        let is_small = self.small_weight > self.capacity / SMALL || self.main.is_empty();
        let queue = if is_small { &mut self.small } else { &mut self.main };
        let Some((key, place)) = queue.pop_front() else { return };
        if self.slots.get(&key).is_none_or(|slot| slot.place != place) {
            return;
        }
        let Some(mut slot) = self.slots.remove(&key) else { return };
        if is_small {
            self.small_weight -= slot.weight;
        }
        if slot.uses > 0 {
            slot.uses = if is_small { 0 } else { slot.uses - 1 };
            slot.is_small = false;
            self.enqueue(&key, slot);
            return;
        }
        self.weight -= slot.weight;
        if is_small && self.is_ghost.insert(slot.hash) {
            self.ghosts.push_back(slot.hash);
        }
    }

    /// Bounds what is remembered of those that are gone.
    fn tidy(&mut self) {
        let most = self.slots.len().max(64);
        while self.ghosts.len() > most {
            let Some(oldest) = self.ghosts.pop_front() else { break };
            self.is_ghost.remove(&oldest);
        }
        for queue in [&mut self.small, &mut self.main] {
            if queue.len() > 2 * most {
                let slots = &self.slots;
                queue
                    .retain(|(key, place)| slots.get(key).is_some_and(|slot| slot.place == *place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Weigh for usize {
        fn weight(&self, _: &CacheKey) -> usize {
            *self
        }
    }

    fn key(number: usize) -> CacheKey {
        number.to_string().into_bytes().into()
    }

    #[test]
    fn a_scan_forgets_nothing_that_is_in_use() {
        let mut map = S3Fifo::new(1_000);
        for number in 0..50 {
            map.insert(key(number), number as u64, 10_usize);
            assert_eq!(map.get(&key(number)), Some(10));
        }
        for number in 1_000..100_000 {
            map.insert(key(number), number as u64, 10);
            if number % 40 == 0 {
                // Now and then they are asked for.
                for number in 0..50 {
                    map.get(&key(number));
                }
            }
        }
        let left = (0..50).filter(|number| map.slots.contains_key(&key(*number))).count();
        assert_eq!((left, map.weight), (50, 1_000));
    }

    #[test]
    fn what_comes_again_after_it_was_forgotten_is_worth_more() {
        let mut map = S3Fifo::new(100);
        for number in 0..30 {
            map.insert(key(number), number as u64, 10_usize);
        }
        assert!(!map.slots.contains_key(&key(0)));
        map.insert(key(0), 0, 10);
        for number in 100..120 {
            map.insert(key(number), number as u64, 10);
        }
        assert!(map.slots.contains_key(&key(0)) && !map.slots.contains_key(&key(29)));
    }

    #[test]
    fn what_is_too_heavy_takes_the_place_of_nothing_else() {
        loom::model(|| {
            let map = WeighedMap::new(100, 100);
            (0..5).for_each(|number| map.insert(key(number), 10_usize));
            map.insert(key(0), 101);
            assert_eq!((map.peek(&key(0)), map.len(), map.weight()), (None, 4, 40));
            map.clear();
            assert_eq!((map.len(), map.weight()), (0, 0));
        });
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_may_forget_and_never_weighs_too_much(
            steps in prop::collection::vec((0..4_u8, 0..40_usize, 0..60_usize), 0..400),
        ) {
            let mut map = S3Fifo::new(200);
            let mut model = HashMap::new();
            for (step, number, weight) in steps {
                let key = key(number);
                match step {
                    0 | 1 => {
                        map.insert(key.clone(), number as u64, weight);
                        model.insert(key, weight);
                    }
                    2 => if let Some(found) = map.get(&key) {
                        prop_assert_eq!(Some(&found), model.get(&key));
                    },
                    _ => {
                        map.remove(&key);
                        model.remove(&key);
                        prop_assert!(!map.slots.contains_key(&key));
                    }
                }
                let sum: usize = map.slots.values().map(|slot| slot.weight).sum();
                let small = map.slots.values().filter(|slot| slot.is_small);
                let small: usize = small.map(|slot| slot.weight).sum();
                prop_assert!(sum <= 200);
                prop_assert_eq!((sum, small), (map.weight, map.small_weight));
                let queued = map.small.len() + map.main.len();
                prop_assert!(queued <= 4 * map.slots.len().max(64));
                prop_assert!(map.ghosts.len() == map.is_ghost.len());
            }
        }
    }
}

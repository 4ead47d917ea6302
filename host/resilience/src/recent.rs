//! A map that knows what was used least recently.

use std::collections::{BTreeMap, HashMap};

/// Entries by their hashes.
#[derive(Debug)]
pub(crate) struct RecentMap<T> {
    entries: HashMap<u128, (u64, T)>,
    /// By when they were used, the longest ago first.
    order: BTreeMap<u64, u128>,
    next: u64,
}

impl<T> Default for RecentMap<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }
}

impl<T> RecentMap<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(_, entry)| entry)
    }

    pub(crate) fn for_each_mut(&mut self, mut look: impl FnMut(&mut T)) {
        self.entries.values_mut().for_each(|(_, entry)| look(entry));
    }

    /// The entry of this hash, which is used now.
    pub(crate) fn get(&mut self, hash: u128) -> Option<&mut T> {
        let (used, entry) = self.entries.get_mut(&hash)?;
        self.order.remove(used);
        *used = self.next;
        self.order.insert(self.next, hash);
        self.next += 1;
        Some(entry)
    }

    /// Adds one, which is used now. There is none of this hash.
    pub(crate) fn insert(&mut self, hash: u128, entry: T) {
        self.entries.insert(hash, (self.next, entry));
        self.order.insert(self.next, hash);
        self.next += 1;
    }

    /// The entry that was used least recently.
    pub(crate) fn oldest(&self) -> Option<&T> {
        let (_, hash) = self.order.first_key_value()?;
        self.entries.get(hash).map(|(_, entry)| entry)
    }

    /// Takes the entry out that was used least recently, of those that may go. It looks at so many;
    /// those that may not go are looked at again when all others were. False: none was found.
    pub(crate) fn evict(&mut self, looks: usize, mut may_go: impl FnMut(&T) -> bool) -> bool {
        for _ in 0..looks.min(self.len()) {
            let Some((_, &hash)) = self.order.first_key_value() else { return false };
            if self.entries.get(&hash).is_some_and(|(_, entry)| may_go(entry)) {
                self.order.pop_first();
                self.entries.remove(&hash);
                return true;
            }
            self.get(hash);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_used_longest_ago_goes_first_of_those_that_may() {
        let mut map = RecentMap::default();
        (0..5).for_each(|number| map.insert(number, number));
        assert_eq!(map.get(9), None);
        assert_eq!(map.get(0), Some(&mut 0));
        assert_eq!(map.oldest(), Some(&1));
        assert!(map.evict(9, |_| true));
        assert!(map.evict(9, |number| *number != 2));
        let mut left: Vec<_> = map.iter().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [0, 2, 4], "1 and 3 have gone");
        assert!(!map.evict(9, |_| false));
        assert_eq!((map.len(), map.order.len()), (3, 3));
    }

    #[test]
    fn many_that_may_not_go_are_passed_a_few_at_a_time() {
        let mut map = RecentMap::default();
        (0..200).for_each(|number| map.insert(number, number));
        let mut looks = 0;
        let mut tries = 0;
        while !map.evict(64, |number| {
            looks += 1;
            *number == 199
        }) {
            tries += 1;
        }
        assert_eq!((tries, looks, map.len()), (3, 200, 199));
    }
}

//! Memory of headers that a worker uses again.

use std::cell::RefCell;
use std::rc::Rc;

use fusebox_head::{FieldIndex, FieldMemory, HeaderFields};
use http::HeaderMap;

/// The number of maps that are kept, and of indexes.
const KEPT: usize = 64;

/// What has more room is not kept: a map needs a hundred bytes per header.
const MOST_HEADERS: usize = 64;

/// Unused header maps, and indexes of headers: their memory takes as long to make as their headers
/// to put in. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SpareHeaders(Rc<Spare>);

#[derive(Debug, Default)]
struct Spare {
    maps: RefCell<Vec<HeaderMap>>,
    indexes: RefCell<Vec<FieldIndex>>,
}

impl SpareHeaders {
    /// An empty map.
    #[inline]
    pub fn take(&self) -> HeaderMap {
        self.0.maps.borrow_mut().pop().unwrap_or_default()
    }

    /// An empty index.
    #[inline]
    pub fn take_index(&self) -> FieldIndex {
        self.0.indexes.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory of a map; its headers are dropped.
    #[inline]
    pub fn put(&self, mut map: HeaderMap) {
        let mut spare = self.0.maps.borrow_mut();
        if spare.len() < KEPT && (1..=MOST_HEADERS).contains(&map.capacity()) {
            map.clear();
            spare.push(map);
        }
    }

    /// Keeps the memory of a response's headers, which are dropped.
    #[inline]
    pub fn put_fields(&self, fields: HeaderFields) {
        match fields.into_memory() {
            FieldMemory::Map(map) => self.put(map),
            FieldMemory::Index(index) => {
                let mut spare = self.0.indexes.borrow_mut();
                if spare.len() < KEPT && (1..=MOST_HEADERS).contains(&index.capacity()) {
                    spare.push(index);
                }
            }
        }
    }

    /// Drops half of them. Called now and then, it leaves nothing of a burst.
    pub fn thin_out(&self) {
        let Spare { maps, indexes } = &*self.0;
        let (mut maps, mut indexes) = (maps.borrow_mut(), indexes.borrow_mut());
        let halves = [maps.len(), indexes.len()].map(|count| count / 2);
        maps.truncate(halves[0]);
        indexes.truncate(halves[1]);
    }

    /// How many maps there are, and how many indexes.
    pub fn count(&self) -> [usize; 2] {
        [self.0.maps.borrow().len(), self.0.indexes.borrow().len()]
    }
}

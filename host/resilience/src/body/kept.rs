//! What is kept of a request body, so that a further attempt can send it again.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

/// So many pieces are kept as they came. After them, small ones are joined: a client may send its
/// body byte by byte, and each piece costs memory beside its data.
const AS_THEY_CAME: usize = 16;

/// What is copied to be joined, and how long that becomes.
const SMALL: usize = 4 * 1024;
const JOINED: usize = 16 * 1024;

/// What a piece costs beside its data: its handle, and a part of what it shares.
const PIECE: usize = 64;

/// The memory of one worker for kept bodies.
#[derive(Debug)]
pub struct ReplayMemory {
    used: Cell<usize>,
    limit: usize,
}

impl Default for ReplayMemory {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl ReplayMemory {
    /// So many bytes.
    pub fn new(limit: usize) -> Self {
        Self { used: Cell::new(0), limit }
    }

    /// How much is in use.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// False: there is not so much left.
    fn take(&self, bytes: usize) -> bool {
        let used = self.used.get().saturating_add(bytes);
        let fits = used <= self.limit;
        if fits {
            self.used.set(used);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// A body as far as it has passed.
#[derive(Debug)]
pub(super) struct KeptBody {
    /// Each with the length of all up to its end. The usual body is one.
    pieces: SmallVec<[(usize, Bytes); 1]>,
    /// What follows them, joined.
    joined: Vec<u8>,
    length: usize,
    cost: usize,
    memory: Rc<ReplayMemory>,
}

impl KeptBody {
    pub(super) fn new(memory: Rc<ReplayMemory>) -> Self {
        Self { pieces: SmallVec::new(), joined: Vec::new(), length: 0, cost: 0, memory }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Keeps what has come next. False: there is no memory for it.
    pub(super) fn push(&mut self, data: &Bytes) -> bool {
        let is_joined = self.pieces.len() >= AS_THEY_CAME && data.len() <= SMALL;
        let cost = data.len() + if is_joined { 0 } else { PIECE };
        if !self.memory.take(cost) {
            return false;
        }
        self.cost += cost;
        if is_joined {
            self.joined.extend_from_slice(data);
            self.length += data.len();
            if self.joined.len() >= JOINED {
                self.seal();
            }
        } else {
            self.seal();
            self.length += data.len();
            self.pieces.push((self.length, data.clone()));
        }
        true
    }

    /// Ends what is being joined.
    fn seal(&mut self) {
        if !self.joined.is_empty() {
            let joined = std::mem::take(&mut self.joined);
            self.pieces.push((self.length, joined.into()));
        }
    }

    /// What was kept from this byte on, up to the end of its piece. `None`: nothing yet.
    pub(super) fn at(&self, position: usize) -> Option<Bytes> {
        let piece = self.pieces.partition_point(|(end, _)| *end <= position);
        if let Some((end, data)) = self.pieces.get(piece) {
            return Some(data.slice(data.len() - (end - position)..));
        }
        let left = self.length - position.min(self.length);
        let from = self.joined.len() - left.min(self.joined.len());
        let rest = &self.joined[from..];
        (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest))
    }

    /// Gives all memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.memory.clone());
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        self.memory.give_back(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(kept: &KeptBody) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(data) = kept.at(read.len()) {
            assert!(!data.is_empty());
            read.extend_from_slice(&data);
        }
        read
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_came_whatever_its_pieces(
            lengths in prop::collection::vec(
                prop_oneof![1..20_usize, 3_000..6_000_usize],
                0..80,
            ),
            at in any::<prop::sample::Index>(),
        ) {
            let memory = Rc::<ReplayMemory>::default();
            let mut kept = KeptBody::new(memory.clone());
            let mut came = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                let data: Vec<u8> = (0..*length).map(|byte| (byte * 7 + number) as u8).collect();
                came.extend_from_slice(&data);
                prop_assert!(kept.push(&data.into()));
            }
            prop_assert_eq!(kept.length(), came.len());
            prop_assert!(all(&kept) == came);
            let position = at.index(came.len() + 1);
            let rest = kept.at(position).unwrap_or_default();
            prop_assert!(came[position..].starts_with(&rest));
            prop_assert_eq!(rest.is_empty(), position == came.len());
            drop(kept);
            prop_assert_eq!(memory.used(), 0);
        }
    }

    #[test]
    fn many_small_pieces_cost_little_more_than_their_data() {
        let memory = Rc::<ReplayMemory>::default();
        let mut kept = KeptBody::new(memory.clone());
        let byte = Bytes::from_static(b"x");
        assert!((0..16_000).all(|_| kept.push(&byte)));
        assert_eq!((kept.length(), all(&kept).len()), (16_000, 16_000));
        assert_eq!(memory.used(), 16_000 + AS_THEY_CAME * PIECE);
        assert!(kept.pieces.len() <= AS_THEY_CAME + 1 && kept.joined.capacity() <= 2 * JOINED);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_given_back_fits_again() {
        let memory = Rc::new(ReplayMemory::new(3 * PIECE));
        let (mut one, mut other) = (KeptBody::new(memory.clone()), KeptBody::new(memory.clone()));
        let data = Bytes::from_static(b"0123456789");
        assert!(one.push(&data) && one.push(&data));
        assert!(!other.push(&data));
        one.clear();
        assert_eq!((one.length(), memory.used()), (0, 0));
        assert!(other.push(&data));
    }
}

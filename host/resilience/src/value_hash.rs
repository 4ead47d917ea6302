//! Names for values of clients: 128 bits of keyed hashes, so that a long value costs no memory and
//! nobody can make two of them meet.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// Keys of their own for two hashes.
#[derive(Debug, Default)]
pub(crate) struct ValueHashKeys([RandomState; 2]);

/// Two hashes of the same values.
pub(crate) struct ValueHash([DefaultHasher; 2]);

impl ValueHashKeys {
    pub(crate) fn begin(&self) -> ValueHash {
        ValueHash(self.0.each_ref().map(BuildHasher::build_hasher))
    }
}

impl ValueHash {
    pub(crate) fn add(&mut self, value: Option<&[u8]>) {
        for hasher in &mut self.0 {
            // With its length: the end of one is not the beginning of the next.
            value.hash(hasher);
        }
    }

    pub(crate) fn finish(&self) -> u128 {
        let [high, low] = self.0.each_ref().map(|hasher| u128::from(hasher.finish()));
        high << 64 | low
    }
}

//! Request ids for clients that send none: 128 random bits in hex.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// The number of digits of an id.
const LENGTH: usize = 32;

/// The number of ids that are made at a time and share memory. A header value of its own needs two
/// allocations.
const BATCH: usize = 64;

/// Makes a worker's request ids.
#[derive(Debug, Default)]
pub(super) struct RequestIds(RefCell<Batch>);

#[derive(Debug, Default)]
struct Batch {
    random: fastrand::Rng,
    /// The digits of the next ids.
    unused: Bytes,
}

impl RequestIds {
    pub(super) fn next(&self) -> HeaderValue {
        let batch = &mut *self.0.borrow_mut();
        if batch.unused.is_empty() {
            let mut digits = BytesMut::with_capacity(BATCH * LENGTH);
            for _ in 0..BATCH * LENGTH / 16 {
                digits.extend_from_slice(&hex(batch.random.u64(..)));
            }
            batch.unused = digits.freeze();
        }
        HeaderValue::from_maybe_shared(batch.unused.split_to(LENGTH))
            .expect("hex digits are a valid value")
    }
}

fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = PAIRS[usize::from(byte)];
    }
    digits
}

/// The digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_hex_and_differ() {
        let ids = RequestIds::default();
        let made: HashSet<HeaderValue> = (0..3 * BATCH).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 3 * BATCH);
        assert!(
            made.iter()
                .all(|id| id.len() == LENGTH && id.as_bytes().iter().all(u8::is_ascii_hexdigit))
        );
        assert_eq!(&hex(0x0123_4567_89ab_cdef), b"0123456789abcdef");
    }
}

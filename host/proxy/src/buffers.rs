//! Buffers of a worker that are used again. (Allocating and freeing them was a tenth of the cost of
//! an exchange.)

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use bytes::BytesMut;
use fusebox_head::{FieldIndex, HeaderFields};
use fusebox_resilience::SpareHeaders;
use http::HeaderMap;

/// The number of each that are kept.
const KEPT: usize = 64;

/// The number of read buffers that wait before one is used again: the headers and the body of its
/// last response may still be in use.
const RESTING: usize = 8;

/// While more large buffers than this are in use, their readers wait for somebody who does not take
/// what they have read, and pieces are shorter.
const MANY: usize = 32;

/// The bytes of such a piece. Those of others are twice as long, and cheaper.
const SHORT_PIECE: usize = 32 * 1024;

/// The room for a request head: most, with a small body, are shorter.
const WRITE: usize = 1024;

/// A longer write buffer was for a body, and is not kept.
const LONGEST: usize = 32 * 1024;

/// Unused buffers: for writing requests, and for reading responses and their headers.
#[derive(Default)]
pub struct Buffers {
    /// First in, first out.
    read: RefCell<VecDeque<BytesMut>>,
    /// Those that bodies were read into. Last in, first out: mostly nobody uses their memory any
    /// more.
    large: RefCell<Vec<BytesMut>>,
    /// The number of large ones in use.
    lent: Rc<Cell<usize>>,
    write: RefCell<Vec<Vec<u8>>>,
    headers: SpareHeaders,
}

impl Buffers {
    /// An empty buffer. If its memory is still in use, it allocates other memory.
    pub(crate) fn take_read(&self) -> BytesMut {
        let mut read = self.read.borrow_mut();
        if read.len() < RESTING { BytesMut::new() } else { read.pop_front().unwrap_or_default() }
    }

    pub(crate) fn put_read(&self, buffer: BytesMut) {
        let mut read = self.read.borrow_mut();
        if read.len() < KEPT {
            read.push_back(buffer);
        }
    }

    /// A buffer for a body, until the body waits for its sender.
    pub(crate) fn take_large(&self) -> (BytesMut, Loan) {
        self.lent.set(self.lent.get() + 1);
        (self.large.borrow_mut().pop().unwrap_or_default(), Loan(self.lent.clone()))
    }

    /// Makes room for the next piece of a body, of `most` bytes or fewer.
    pub(crate) fn make_room(&self, buffer: &mut BytesMut, most: usize) {
        if self.lent.get() <= MANY || most <= SHORT_PIECE {
            buffer.reserve(most);
        } else if buffer.is_empty() && buffer.capacity() != SHORT_PIECE {
            // What it has is as long as pieces may be otherwise.
            *buffer = BytesMut::with_capacity(SHORT_PIECE);
        } else {
            buffer.reserve(SHORT_PIECE);
        }
    }

    /// Of a body that waits.
    pub(crate) fn put_large(&self, buffer: BytesMut, _loan: Loan) {
        let mut large = self.large.borrow_mut();
        if large.len() < KEPT {
            large.push(buffer);
        }
    }

    pub(crate) fn take_write(&self) -> Vec<u8> {
        self.write.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(WRITE))
    }

    pub(crate) fn put_write(&self, mut buffer: Vec<u8>) {
        let mut write = self.write.borrow_mut();
        if write.len() < KEPT && (1..=LONGEST).contains(&buffer.capacity()) {
            buffer.clear();
            write.push(buffer);
        }
    }
}

impl Buffers {
    /// An empty map.
    pub(crate) fn take_headers(&self) -> HeaderMap {
        self.headers.take()
    }

    /// Keeps the memory of a map; its headers are dropped.
    pub(crate) fn put_headers(&self, map: HeaderMap) {
        self.headers.put(map);
    }

    /// An empty index, for a response.
    pub(crate) fn take_index(&self) -> FieldIndex {
        self.headers.take_index()
    }

    /// Keeps the memory of a response's headers, which are dropped.
    pub(crate) fn put_fields(&self, fields: HeaderFields) {
        self.headers.put_fields(fields);
    }

    /// All memory of headers that is unused.
    pub(crate) fn spare_headers(&self) -> &SpareHeaders {
        &self.headers
    }

    /// Drops half of what is unused. Called now and then, it leaves nothing of a burst.
    pub(crate) fn thin_out(&self) {
        let mut read = self.read.borrow_mut();
        let mut large = self.large.borrow_mut();
        let mut write = self.write.borrow_mut();
        let halves = [read.len(), large.len(), write.len()].map(|count| count / 2);
        read.truncate(halves[0]);
        large.truncate(halves[1]);
        write.truncate(halves[2]);
        self.headers.thin_out();
    }

    /// Read buffers, large ones, write buffers, header maps and indexes that are unused.
    fn unused(&self) -> [usize; 5] {
        let Self { read, large, write, headers, lent: _ } = self;
        let [maps, indexes] = headers.count();
        [read.borrow().len(), large.borrow().len(), write.borrow().len(), maps, indexes]
    }
}

/// A large buffer is in use.
pub(crate) struct Loan(Rc<Cell<usize>>);

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("unused", &self.unused()).finish()
    }
}

#[cfg(test)]
mod tests {
    use fusebox_head::CameFields;

    use super::*;

    #[test]
    fn pieces_are_shorter_while_many_are_not_taken() {
        const LONG: usize = 2 * SHORT_PIECE;
        let buffers = Buffers::default();
        let room = |buffer: &mut BytesMut| {
            buffers.make_room(buffer, LONG);
            buffer.capacity() - buffer.len()
        };
        let mut waiting: Vec<_> = (0..MANY).map(|_| buffers.take_large()).collect();
        let (first, _) = &mut waiting[0];
        assert_eq!(room(first), LONG);
        waiting.push(buffers.take_large());
        let (first, _) = &mut waiting[0];
        assert_eq!(room(first), SHORT_PIECE, "although it has more");
        let (last, _) = &mut waiting[MANY];
        last.extend_from_slice(b"of a piece");
        assert_eq!(room(last), SHORT_PIECE);
        assert_eq!(&last[..], b"of a piece");
        // One is lost with its connection, another one is given back.
        drop(waiting.pop());
        let (last, loan) = waiting.pop().unwrap();
        buffers.put_large(last, loan);
        assert_eq!(buffers.lent.get(), MANY - 1);
        let (first, _) = &mut waiting[0];
        assert_eq!(room(first), LONG);
    }

    #[test]
    fn what_a_burst_leaves_goes() {
        let buffers = Buffers::default();
        let loans: Vec<_> = (0..KEPT + 5).map(|_| buffers.take_large().1).collect();
        for loan in loans {
            buffers.put_read(BytesMut::with_capacity(10));
            buffers.put_large(BytesMut::with_capacity(10), loan);
            buffers.put_write(Vec::with_capacity(10));
            buffers.put_headers(HeaderMap::with_capacity(10));
            let (mut index, field) = (FieldIndex::default(), [0..1, 3..4]);
            assert!(index.add([field].into_iter()));
            buffers.put_fields(CameFields::new("a: 1\r\n".into(), index).into());
        }
        let left = std::iter::from_fn(|| {
            let unused = buffers.unused();
            buffers.thin_out();
            Some(unused)
        });
        let halves: Vec<_> = [64, 32, 16, 8, 4, 2, 1, 0].map(|unused| [unused; 5]).into();
        assert_eq!(left.take(halves.len()).collect::<Vec<_>>(), halves);
    }
}

//! Buffers of a worker that are used again. (Allocating and freeing them was a tenth of the cost of
//! an exchange.)

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

use bytes::BytesMut;
use http::HeaderMap;

/// The number of each that are kept.
const KEPT: usize = 64;

/// The number of read buffers that wait before one is used again: the headers and the body of its
/// last response may still be in use.
const RESTING: usize = 8;

/// The room for a request head: most, with a small body, are shorter.
const WRITE: usize = 1024;

/// A longer write buffer was for a body, and is not kept.
const LONGEST: usize = 32 * 1024;

/// Header maps with more room are not kept: they need a hundred bytes per header.
const MOST_HEADERS: usize = 64;

/// Unused buffers: for writing requests, and for reading responses and their headers.
#[derive(Default)]
pub struct Buffers {
    /// First in, first out.
    read: RefCell<VecDeque<BytesMut>>,
    write: RefCell<Vec<Vec<u8>>>,
    headers: RefCell<Vec<HeaderMap>>,
}

impl Buffers {
    /// An empty buffer. If its memory is still in use, it allocates other memory.
    pub(super) fn take_read(&self) -> BytesMut {
        let mut read = self.read.borrow_mut();
        if read.len() < RESTING { BytesMut::new() } else { read.pop_front().unwrap_or_default() }
    }

    pub(super) fn put_read(&self, buffer: BytesMut) {
        let mut read = self.read.borrow_mut();
        if read.len() < KEPT {
            read.push_back(buffer);
        }
    }

    pub(super) fn take_write(&self) -> Vec<u8> {
        self.write.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(WRITE))
    }

    pub(super) fn put_write(&self, mut buffer: Vec<u8>) {
        let mut write = self.write.borrow_mut();
        if write.len() < KEPT && (1..=LONGEST).contains(&buffer.capacity()) {
            buffer.clear();
            write.push(buffer);
        }
    }
}

impl Buffers {
    /// An empty map.
    pub(super) fn take_headers(&self) -> HeaderMap {
        self.headers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory of a map; its headers are dropped.
    pub(crate) fn put_headers(&self, mut map: HeaderMap) {
        let mut headers = self.headers.borrow_mut();
        if headers.len() < KEPT && (1..=MOST_HEADERS).contains(&map.capacity()) {
            map.clear();
            headers.push(map);
        }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, write, headers } = self;
        f.debug_struct("Buffers")
            .field("read", &read.borrow().len())
            .field("write", &write.borrow().len())
            .field("headers", &headers.borrow().len())
            .finish()
    }
}

//! A worker's buffers, used again: to make and to free them is a tenth of what an exchange costs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

use bytes::BytesMut;
use http::HeaderMap;

/// So many of each are kept at most.
const KEPT: usize = 64;

/// So many rest before one is read into again: the headers and the body of the response that was
/// read into it last are still in use for a moment.
const RESTING: usize = 8;

/// Most heads, with what comes with them, are shorter.
const WRITE: usize = 1024;

/// What is longer was for a body, and is not kept.
const LONGEST: usize = 32 * 1024;

/// Maps with room for more headers are not kept: they take a hundred bytes for each.
const MOST_HEADERS: usize = 64;

/// What requests are written from, and what responses and their headers are read into, as long as
/// no exchange uses it.
#[derive(Default)]
pub struct Buffers {
    /// First in, first out.
    read: RefCell<VecDeque<BytesMut>>,
    write: RefCell<Vec<Vec<u8>>>,
    headers: RefCell<Vec<HeaderMap>>,
}

impl Buffers {
    /// An empty one, whose memory may still be in use: it then gets other memory.
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
    /// An empty one.
    pub(super) fn take_headers(&self) -> HeaderMap {
        self.headers.borrow_mut().pop().unwrap_or_default()
    }

    /// Of use for its memory; what it holds is dropped.
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

//! Heads and trailers that arrive in pieces.

/// How much of a block of fields has arrived. What comes byte by byte is not parsed from its
/// beginning with every byte.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes at the start of the buffer in which the block has not ended.
    seen: usize,
}

impl Progress {
    /// Whether anything has arrived.
    pub(crate) fn has_begun(&self) -> bool {
        self.seen > 0
    }

    /// Whether the block may have ended within these bytes, of which more have come.
    pub(crate) fn may_be_whole(&self, bytes: &[u8]) -> bool {
        self.seen == 0 || has_blank_line(&bytes[self.seen.saturating_sub(3)..])
    }

    /// So many bytes are not all of it.
    pub(crate) fn wait_beyond(&mut self, length: usize) {
        self.seen = length;
    }

    /// The next block comes.
    pub(crate) fn begin(&mut self) {
        self.seen = 0;
    }
}

fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

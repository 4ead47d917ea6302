//! Requests that `h2` answers by itself.
//!
//! It refuses what is malformed with a reset, and a head that is too long with a 431, and tells
//! nobody of either. Which it was is seen in what it writes: a head of a response, on a stream that
//! was not handed on. So that is looked at while there is such a stream, which is seldom.

use crate::frames::{FrameKind, FrameMeter};
use std::cell::Cell;
use std::io::IoSlice;

#[derive(Debug, Default)]
pub(super) struct OwnAnswers {
    /// So many of the client's streams are known for what they are.
    settled: Cell<u64>,
    /// The highest stream that was handed on, or answered by `h2`.
    highest: Cell<u32>,
    /// Those that it has answered, and nobody has asked for.
    count: Cell<u64>,
    /// How much of what was offered to be written last was not taken. Behind it begins a frame: all
    /// streams take vectored writes, so each offer ends with one.
    left: Cell<usize>,
}

impl OwnAnswers {
    /// A stream was handed on; so many are settled with it.
    pub(super) fn hand_on(&self, stream: u32, settled: u64) {
        self.highest.set(self.highest.get().max(stream));
        self.settled.set(settled);
    }

    /// So many streams are settled. How many more of them `h2` has answered.
    pub(super) fn settle(&self, settled: u64) -> u64 {
        self.settled.set(settled);
        self.count.take()
    }

    /// This is to be written, after the client has opened so many streams.
    pub(super) fn offer(&self, slices: &[IoSlice<'_>], opened: u64) {
        if opened > self.settled.get() {
            self.look(slices);
        }
    }

    fn look(&self, slices: &[IoSlice<'_>]) {
        let mut known = self.left.get();
        let mut meter = FrameMeter::of_server();
        for slice in slices {
            let passed = known.min(slice.len());
            known -= passed;
            meter.pass(&slice[passed..], |frame| {
                if frame.kind == FrameKind::Headers && frame.stream > self.highest.get() {
                    self.highest.set(frame.stream);
                    self.count.set(self.count.get() + 1);
                }
            });
        }
    }

    /// So much of the last offer was taken.
    pub(super) fn took(&self, slices: &[IoSlice<'_>], taken: usize) {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        self.left.set(offered - taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this kind on this stream, with so much in it.
    fn frame(kind: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, 0, 0, 0, 0, stream];
        bytes.resize(9 + usize::from(length), 0xff);
        bytes
    }

    #[test]
    fn a_head_on_a_stream_that_was_not_handed_on_is_an_own_answer_however_it_is_written() {
        const HEADERS: u8 = 1;
        const RESET: u8 = 3;
        let bytes =
            [frame(0, 1, 30), frame(HEADERS, 1, 9), frame(HEADERS, 3, 4), frame(RESET, 3, 4)];
        let bytes = bytes.concat();
        for cut in 0..=bytes.len() {
            let own = OwnAnswers::default();
            own.hand_on(1, 1);
            // All that has not been taken is offered, in two pieces.
            let mut begin = 0;
            for end in [cut, bytes.len()] {
                let (first, second) = bytes[begin..].split_at((bytes.len() - begin) / 2);
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                own.offer(&slices, 2);
                own.took(&slices, end - begin);
                begin = end;
            }
            assert_eq!((own.settle(2), own.settle(2)), (1, 0), "{cut}");
        }
    }

    #[test]
    fn what_is_written_while_all_streams_are_known_is_not_looked_at() {
        let own = OwnAnswers::default();
        own.hand_on(1, 1);
        own.offer(&[IoSlice::new(&frame(1, 3, 4))], 1);
        assert_eq!(own.settle(1), 0);
    }
}

//! Where the first server-sent event of a stream ends.
//!
//! As the WHATWG's HTML Standard reads event streams (9.2.6): lines end with CR LF, LF or CR; an
//! empty line ends an event if a line of it began with `data`. Comments, which keep a stream alive,
//! and blocks without data, such as a `retry`, are no events.

const DATA: &[u8] = b"data";

/// Looks for that end in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct FirstEvent {
    /// How many bytes of the line have come.
    column: usize,
    /// How many of them, from its first, are those of `data`.
    matching: usize,
    /// A line of the block had data.
    has_data: bool,
    after_cr: bool,
    ended: bool,
}

impl FirstEvent {
    /// Whether the event has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.ended {
                return;
            }
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.end_line();
                    self.after_cr = *byte == b'\r';
                }
                _ => {
                    self.after_cr = false;
                    if self.matching == self.column && DATA.get(self.column) == Some(byte) {
                        self.matching += 1;
                    }
                    self.column += 1;
                }
            }
        }
    }

    fn end_line(&mut self) {
        if self.column == 0 {
            self.ended = self.has_data;
            self.has_data = false;
        }
        self.has_data |= self.matching == DATA.len();
        (self.column, self.matching) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of a stream it takes until the first event has ended, in pieces of `size`.
    fn end(stream: &str, size: usize) -> Option<usize> {
        let mut event = FirstEvent::default();
        let mut read = 0;
        for piece in stream.as_bytes().chunks(size) {
            event.push(piece);
            read += piece.len();
            if event.has_ended() {
                return Some(read);
            }
        }
        None
    }

    #[test]
    fn an_event_ends_at_the_empty_line_after_its_data() {
        let cases: [(&str, Option<&str>); 12] = [
            ("data: a\n\ndata: b\n\n", Some("data: a\n\n")),
            ("data: a\r\n\r\nmore", Some("data: a\r\n\r")),
            ("data: a\r\rmore", Some("data: a\r\r")),
            ("event: x\ndata: a\nid: 1\n\nmore", Some("event: x\ndata: a\nid: 1\n\n")),
            ("data\n\nmore", Some("data\n\n")),
            (": still here\n\ndata: a\n\n", Some(": still here\n\ndata: a\n\n")),
            ("retry: 3000\n\ndata: a\n\n", Some("retry: 3000\n\ndata: a\n\n")),
            ("\n\n\r\n\ndata: a\n\n", Some("\n\n\r\n\ndata: a\n\n")),
            ("dat: a\n\n", None),
            (" data: a\n\n", None),
            ("data: a\n", None),
            ("", None),
        ];
        for (stream, first) in cases {
            assert_eq!(end(stream, 1), first.map(str::len), "{stream:?}");
            assert_eq!(end(stream, stream.len().max(1)).is_some(), first.is_some(), "{stream:?}");
        }
    }
}

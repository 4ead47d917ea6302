//! Which frames go by, told from their heads alone.
//!
//! `h2` tells of requests and responses only. What it handles, ignores or refuses by itself, and
//! what it has written, is seen here, on its way.

/// What a client begins with (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// None that HTTP/2 itself has.
    Other,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    /// The last frame of a block of headers.
    const END_HEADERS: u8 = 0x4;

    /// The last frame of a stream, if it is data or headers.
    const END_STREAM: u8 = 0x1;

    /// Of `SETTINGS` and `PING`: an answer to ours.
    const ACK: u8 = 0x1;

    fn parse(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind: match kind {
                0 => FrameKind::Data,
                1 => FrameKind::Headers,
                2 => FrameKind::Priority,
                3 => FrameKind::Reset,
                4 => FrameKind::Settings,
                5 => FrameKind::PushPromise,
                6 => FrameKind::Ping,
                7 => FrameKind::GoAway,
                8 => FrameKind::WindowUpdate,
                9 => FrameKind::Continuation,
                _ => FrameKind::Other,
            },
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Whether it belongs to a block of headers.
    pub(crate) fn is_of_block(self) -> bool {
        matches!(self.kind, FrameKind::Headers | FrameKind::Continuation)
    }

    /// Whether it ends one.
    pub(crate) fn ends_block(self) -> bool {
        self.is_of_block() && self.flags & Self::END_HEADERS != 0
    }

    /// Whether it is the last of its stream.
    pub(crate) fn ends_stream(self) -> bool {
        let may_end = matches!(self.kind, FrameKind::Data | FrameKind::Headers);
        may_end && self.flags & Self::END_STREAM != 0
    }

    /// Whether it is an answer to a frame of ours, if its kind knows answers.
    pub(crate) fn is_ack(self) -> bool {
        self.flags & Self::ACK != 0
    }
}

/// Follows the bytes of one direction.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    head: [u8; HEAD],
    /// How much of the head has come.
    of_head: usize,
    /// The frame whose content comes now.
    current: Option<FrameHead>,
    /// How much of that, or of the preface, is still to come.
    left: usize,
}

impl FrameMeter {
    /// Of a client, whose preface comes first.
    pub(crate) fn of_client() -> Self {
        Self { head: [0; HEAD], of_head: 0, current: None, left: PREFACE.len() }
    }

    /// Of a server, from the beginning of a frame.
    pub(crate) fn of_server() -> Self {
        Self { head: [0; HEAD], of_head: 0, current: None, left: 0 }
    }

    /// Goes on over these bytes. `ended` is told each frame that ends in them.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut ended: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
            } else {
                let taken = (HEAD - self.of_head).min(bytes.len());
                self.head[self.of_head..][..taken].copy_from_slice(&bytes[..taken]);
                self.of_head += taken;
                bytes = &bytes[taken..];
                if self.of_head < HEAD {
                    return;
                }
                self.of_head = 0;
                let head = FrameHead::parse(&self.head);
                self.left = head.length as usize;
                self.current = Some(head);
            }
            if self.left == 0
                && let Some(head) = self.current.take()
            {
                ended(head);
            }
        }
    }

    /// The frame of which a part has come, and how much of its content.
    pub(crate) fn current(&self) -> Option<(FrameHead, u32)> {
        self.current.map(|head| (head, head.length - self.left as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEAD + length, 0xff);
        bytes
    }

    #[test]
    fn frames_are_told_once_they_have_ended_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(0, 4, 0, 0));
        bytes.extend(frame(300, 1, 0, 1));
        bytes.extend(frame(2, 9, 4, 1));
        bytes.extend(frame(70_000, 0, 1, 0x8000_0001));
        bytes.extend(frame(8, 0x42, 9, 7));
        let expected = [
            (FrameKind::Settings, 0, 0, 0),
            (FrameKind::Headers, 300, 0, 1),
            (FrameKind::Continuation, 2, 4, 1),
            (FrameKind::Data, 70_000, 1, 1),
            (FrameKind::Other, 8, 9, 7),
        ];
        for size in [1, 2, 8, 9, 10, 23, 24, 25, 1000, bytes.len()] {
            let mut meter = FrameMeter::of_client();
            let mut told = Vec::new();
            for piece in bytes.chunks(size) {
                assert!(told.len() < expected.len());
                meter.pass(piece, |head| {
                    told.push((head.kind, head.length, head.flags, head.stream));
                });
            }
            assert_eq!(told, expected, "{size}");
            assert!(meter.current().is_none());
        }
    }

    #[test]
    fn what_has_come_of_a_frame_is_known() {
        let mut meter = FrameMeter::of_client();
        meter.pass(PREFACE, |_| unreachable!());
        let bytes = frame(100, 0, 0, 3);
        meter.pass(&bytes[..5], |_| unreachable!());
        assert!(meter.current().is_none());
        meter.pass(&bytes[5..50], |_| unreachable!());
        let (head, come) = meter.current().expect("a frame");
        assert_eq!((head.kind, head.stream, come), (FrameKind::Data, 3, 41));
    }
}

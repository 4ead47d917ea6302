//! HTTP/2 as frames, byte by byte: what a test sends, valid or not, and what comes back.

use crate::wire::Wire;

/// What a client sends before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// One of the constants, or another.
    pub kind: u8,
    /// All of them.
    pub flags: u8,
    /// Its stream, with the bit that means nothing.
    pub stream: u32,
    /// Its content.
    pub payload: Vec<u8>,
}

/// The kinds of frames.
pub mod kind {
    /// Section 6.1.
    pub const DATA: u8 = 0;
    /// Section 6.2.
    pub const HEADERS: u8 = 1;
    /// Section 6.3.
    pub const PRIORITY: u8 = 2;
    /// Section 6.4.
    pub const RESET: u8 = 3;
    /// Section 6.5.
    pub const SETTINGS: u8 = 4;
    /// Section 6.6.
    pub const PUSH_PROMISE: u8 = 5;
    /// Section 6.7.
    pub const PING: u8 = 6;
    /// Section 6.8.
    pub const GOAWAY: u8 = 7;
    /// Section 6.9.
    pub const WINDOW_UPDATE: u8 = 8;
    /// Section 6.10.
    pub const CONTINUATION: u8 = 9;
}

/// What frames are marked with.
pub mod flag {
    /// The last one of its stream.
    pub const END_STREAM: u8 = 0x1;
    /// An answer to settings or to a ping.
    pub const ACK: u8 = 0x1;
    /// The last one of its block of headers.
    pub const END_HEADERS: u8 = 0x4;
    /// With padding.
    pub const PADDED: u8 = 0x8;
    /// With a priority.
    pub const PRIORITIZED: u8 = 0x20;
}

impl RawFrame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// These settings.
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let bytes =
            |(id, value): &(u16, u32)| [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat();
        Self::new(kind::SETTINGS, 0, 0, settings.iter().flat_map(bytes).collect::<Vec<_>>())
    }

    /// All headers of a request, which ends with them or not.
    pub fn headers(stream: u32, fields: &[(&str, &str)], is_last: bool) -> Self {
        let flags = flag::END_HEADERS | if is_last { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flags, stream, header_block(fields))
    }

    /// A GET of `/`.
    pub fn get(stream: u32) -> Self {
        Self::headers(stream, &GET, true)
    }

    /// The head of a POST to `/`.
    pub fn post(stream: u32) -> Self {
        Self::headers(stream, &POST, false)
    }

    /// A piece of a body.
    pub fn data(stream: u32, data: impl Into<Vec<u8>>, is_last: bool) -> Self {
        Self::new(kind::DATA, if is_last { flag::END_STREAM } else { 0 }, stream, data)
    }

    /// More room.
    pub fn window_update(stream: u32, more: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    /// The stream is given up.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RESET, 0, stream, code.to_be_bytes())
    }

    /// Streams after the last one were not processed.
    pub fn go_away(last: u32, code: u32) -> Self {
        Self::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// A ping.
    pub fn ping(content: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, content)
    }

    /// The same with other flags.
    #[must_use]
    pub fn with_flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_as_if(self.payload.len())
    }

    /// The same, saying another length.
    pub fn bytes_as_if(&self, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("a length").to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()];
        [&head.concat(), self.payload.as_slice()].concat()
    }

    /// The number at this place of its content: an error code, or what a window grows by.
    #[track_caller]
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).expect("four bytes");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    }

    /// The status of a response, of whose block it is the first field.
    #[track_caller]
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, kind::HEADERS, "{self:?}");
        // A short size of the table may stand before it.
        let is_size = |byte: &u8| (0x20..0x3f).contains(byte);
        let sizes = self.payload.iter().take_while(|byte| is_size(byte)).count();
        match self.payload[sizes..] {
            [index @ 0x88..=0x8e, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)]
            }
            [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => {
                [a, b, c].iter().fold(0, |all, digit| all * 10 + u16::from(digit - b'0'))
            }
            [0x08 | 0x18 | 0x48, length @ 0x82..=0x83, ref rest @ ..] => {
                let bytes = rest[..usize::from(length & 0x7f)].iter();
                let bits = bytes.fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
                digits(bits, 8 * u32::from(length & 0x7f))
            }
            _ => panic!("no status: {self:?}"),
        }
    }
}

/// Three digits in Huffman's code: 5 bits for 0 to 2, 6 for the others.
fn digits(bits: u32, mut left: u32) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> (left - 5) & 0x1f;
        let (digit, length) = match five {
            0..=2 => (five, 5),
            _ => ((bits >> (left - 6) & 0x3f) - 0x19 + 3, 6),
        };
        left -= length;
        number = number * 10 + digit as u16;
    }
    number
}

/// What a GET has.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "b.example")];

/// What a POST has.
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "b.example")];

/// Fields as literals that no table keeps.
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            put_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer of seven bits' prefix (RFC 7541, section 5.1).
fn put_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(length as u8);
    };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}

impl Wire {
    /// Sends a preface and these settings.
    #[track_caller]
    pub fn begin_http2(&mut self, settings: &[(u16, u32)]) {
        self.send([PREFACE, &RawFrame::settings(settings).bytes()].concat());
    }

    /// The next frame. None: the other side has closed the connection.
    pub fn frame(&mut self) -> Option<RawFrame> {
        let head = self.take(9).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        let payload = self.take(length as usize).ok()?;
        Some(RawFrame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; others are passed over.
    #[track_caller]
    pub fn frame_of(&mut self, kind: u8) -> RawFrame {
        loop {
            let frame = self.frame().unwrap_or_else(|| panic!("no frame {kind}: closed"));
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        for (block, status) in [
            (&[0x88][..], 200),
            (&[0x8d, 1], 404),
            (&[0x20, 0x88], 200),
            (&[0x48, 3, b'4', b'3', b'1'], 431),
            // 4 is 011010, 3 is 011001, 1 is 00001.
            (&[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111], 431),
            // 5 is 011011, 0 is 00000.
            (&[0x48, 0x82, 0b0110_1100, 0b0000_0000], 500),
        ] {
            let frame = RawFrame::new(kind::HEADERS, 0, 1, block);
            assert_eq!(frame.status(), status, "{block:?}");
        }
    }

    #[test]
    fn a_long_field_has_a_long_length() {
        let block = header_block(&[("a", &"x".repeat(300))]);
        assert_eq!(block[..5], [0, 1, b'a', 127, 0xad]);
        assert_eq!((block[5], block.len()), (1, 306));
    }
}

//! [`HeaderDecoder`]: header blocks of HTTP/2 (RFC 7541), read without the library that the proxy
//! has, so that the two can be held against each other.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

/// A field as it came.
pub type RawField = (Vec<u8>, Vec<u8>);

/// What one side of a connection reads header blocks with.
#[derive(Debug)]
pub struct HeaderDecoder {
    /// The newest one first.
    table: VecDeque<RawField>,
    max_size: usize,
}

impl Default for HeaderDecoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), max_size: 4096 }
    }
}

impl HeaderDecoder {
    /// The fields of a block.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<RawField>, &'static str> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            let field = match first {
                0x80.. => self.field(integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.table.push_front(field.clone());
                    self.evict();
                    field
                }
                0x20.. => {
                    self.max_size = integer(&mut block, 5)?;
                    self.evict();
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            fields.push(field);
        }
        Ok(fields)
    }

    /// At this index of both tables.
    fn field(&self, index: usize) -> Result<RawField, &'static str> {
        let at = index.checked_sub(1).ok_or("an index of 0")?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table.get(at - STATIC.len()).cloned().ok_or("an index beyond the tables")
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<RawField, &'static str> {
        let name = match integer(block, prefix)? {
            0 => string(block)?,
            index => self.field(index)?.0,
        };
        Ok((name, string(block)?))
    }

    fn evict(&mut self) {
        let size = |(name, value): &RawField| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.max_size {
            self.table.pop_back();
        }
    }
}

/// Section 5.1.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, &'static str> {
    let mut next = || block.split_off_first().map(|byte| usize::from(*byte)).ok_or("cut off");
    let most = (1 << prefix) - 1;
    let mut number = next()? & most;
    if number < most {
        return Ok(number);
    }
    for shift in (0..28).step_by(7) {
        let byte = next()?;
        number += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("an integer without end")
}

/// Section 5.2.
fn string(block: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let is_huffman = block.first().is_some_and(|byte| *byte >= 0x80);
    let length = integer(block, 7)?;
    let text = block.split_off(..length).ok_or("cut off")?;
    if is_huffman { huffman(text) } else { Ok(text.to_vec()) }
}

fn huffman(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut found = Vec::new();
    // The bits of a code so far, and how many they are.
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(byte) = CODES.get(&(length, code)) {
            found.push(*byte);
            (code, length) = (0, 0);
        } else if length == 30 {
            return Err("a code of no byte");
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    if is_padding { Ok(found) } else { Err("no padding") }
}

/// Bytes by their codes. Those of a length follow each other in the order of their bytes, and those
/// of the next length follow them.
static CODES: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let (mut codes, mut next) = (HashMap::new(), 0);
    for length in 1..=30 {
        next <<= 1;
        for byte in (0..=255).filter(|byte| LENGTHS[usize::from(*byte)] == length) {
            codes.insert((length, next), byte);
            next += 1;
        }
    }
    codes
});

/// How long the code of each byte is (appendix B).
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told(decoder: &mut HeaderDecoder, block: &[u8]) -> Result<String, &'static str> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = decoder.decode(block)?;
        let told = fields.iter().map(|(name, value)| format!("{}={}", text(name), text(value)));
        Ok(told.collect::<Vec<_>>().join(" "))
    }

    /// RFC 7541, appendix C.4.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let mut decoder = HeaderDecoder::default();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\
            \x5b\xb8\xe8\xb4\xbf";
        let begin = ":method=GET :scheme=http :path=/ :authority=www.example.com";
        assert_eq!(told(&mut decoder, first).as_deref(), Ok(begin));
        let more = format!("{begin} cache-control=no-cache");
        assert_eq!(told(&mut decoder, second).as_deref(), Ok(&*more));
        let other = ":method=GET :scheme=https :path=/index.html :authority=www.example.com \
                     custom-key=custom-value";
        assert_eq!(told(&mut decoder, third).as_deref(), Ok(other));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for block in [&[0x80][..], &[0xff], &[0xff; 9], &[0xbe], &[0, 1, b'a', 9], &[0, 0x81, 0]] {
            assert!(HeaderDecoder::default().decode(block).is_err(), "{block:?}");
        }
    }
}

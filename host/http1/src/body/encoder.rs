//! Bodies, as they go to the other side.

use std::fmt;

use http::HeaderMap;

use super::trailers::TrailerRule;
use crate::field::put_field;
use crate::framing::Framing;

/// A body was shorter or longer than its head has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not as long as its head has said")
    }
}

impl std::error::Error for WrongLength {}

/// Puts around the pieces of a body what its framing asks for. The default is for no body.
#[derive(Debug)]
pub struct BodyEncoder {
    rest: Rest,
}

/// What is left to send.
#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Length(u64),
    UntilClose,
    Chunked(TrailerRule),
}

impl Default for BodyEncoder {
    fn default() -> Self {
        Self { rest: Rest::Length(0) }
    }
}

impl BodyEncoder {
    /// For a body whose head has said so. `takes_trailers`: the recipient has said that it takes
    /// those which the head does not announce, too.
    pub(crate) fn new(framing: Framing, takes_trailers: bool) -> Self {
        let rest = match framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::UntilClose => Rest::UntilClose,
            Framing::Chunked if takes_trailers => Rest::Chunked(TrailerRule::All),
            Framing::Chunked => Rest::Chunked(TrailerRule::Announced(None)),
        };
        Self { rest }
    }

    /// A `Trailer` field of the head.
    pub(crate) fn announce(&mut self, list: &[u8]) {
        if let Rest::Chunked(rule) = &mut self.rest {
            rule.announce(list);
        }
    }

    /// Whether nothing more has a place in it, nor has to come.
    pub fn is_full(&self) -> bool {
        matches!(self.rest, Rest::Length(0))
    }

    /// Appends what goes before a piece of `length` bytes, which is not 0.
    ///
    /// # Errors
    /// There is no place for so much.
    pub fn begin_piece(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match &mut self.rest {
            Rest::Length(left) => *left = left.checked_sub(length as u64).ok_or(WrongLength)?,
            Rest::UntilClose => {}
            Rest::Chunked(_) => put_chunk_size(out, length),
        }
        Ok(())
    }

    /// Appends what goes after it.
    pub fn end_piece(&self, out: &mut Vec<u8>) {
        if let Rest::Chunked(_) = self.rest {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of the body. `trailers` are sent as far as the recipient wants them, by the
    /// head's `Trailer` or its own word, and a trailer may be of that name (RFC 9110, section
    /// 6.5.1).
    ///
    /// # Errors
    /// The body was too short.
    pub fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        out: &mut Vec<u8>,
    ) -> Result<(), WrongLength> {
        match &self.rest {
            Rest::Length(0) | Rest::UntilClose => {}
            Rest::Length(_) => return Err(WrongLength),
            Rest::Chunked(rule) => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if rule.lets_pass(name) {
                        put_field(out, name, value);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// `fmt` costs several times as much.
fn put_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[size >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn body(framing: Framing, pieces: &[&str]) -> Result<String, WrongLength> {
        body_for(false, framing, pieces)
    }

    fn body_for(takes_all: bool, framing: Framing, pieces: &[&str]) -> Result<String, WrongLength> {
        let trailers =
            headers(&[("x-sum", "1"), ("host", "evil"), ("x-other", "2"), ("x-more", "3")]);
        let (mut out, mut encoder) = (Vec::new(), BodyEncoder::new(framing, takes_all));
        [b"x-sum, Host".as_slice(), b"x-more"].iter().for_each(|list| encoder.announce(list));
        for piece in pieces {
            encoder.begin_piece(piece.len(), &mut out)?;
            out.extend_from_slice(piece.as_bytes());
            encoder.end_piece(&mut out);
        }
        encoder.end(Some(&trailers), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn pieces_become_chunks_and_announced_trailers_follow() {
        let sent = body(Framing::Chunked, &["hello, chunked world", "!"]);
        assert_eq!(
            sent.as_deref(),
            Ok("14\r\nhello, chunked world\r\n1\r\n!\r\n0\r\nx-sum: 1\r\nx-more: 3\r\n\r\n")
        );
        assert_eq!(
            body(Framing::Chunked, &[]).as_deref(),
            Ok("0\r\nx-sum: 1\r\nx-more: 3\r\n\r\n")
        );
    }

    #[test]
    fn who_takes_trailers_gets_unannounced_ones_too_but_none_that_frames_or_routes() {
        assert_eq!(
            body_for(true, Framing::Chunked, &[]).as_deref(),
            Ok("0\r\nx-sum: 1\r\nx-other: 2\r\nx-more: 3\r\n\r\n")
        );
        for framing in [Framing::Length(0), Framing::UntilClose] {
            assert_eq!(body_for(true, framing, &[]).as_deref(), Ok(""));
        }
    }

    #[test]
    fn the_length_of_a_piece_is_in_hexadecimal() {
        for length in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535, usize::MAX] {
            let mut out = Vec::new();
            BodyEncoder::new(Framing::Chunked, false).begin_piece(length, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }

    /// Bytes: it is moved with every message.
    #[test]
    fn an_encoder_is_small() {
        assert_eq!(size_of::<BodyEncoder>(), 16);
    }

    #[test]
    fn until_the_connection_ends_everything_has_a_place() {
        assert_eq!(body(Framing::UntilClose, &["ab", "c"]).as_deref(), Ok("abc"));
    }

    #[test]
    fn a_body_is_as_long_as_its_head_has_said() {
        assert_eq!(body(Framing::Length(3), &["ab", "c"]).as_deref(), Ok("abc"));
        assert_eq!(body(Framing::Length(3), &["ab"]), Err(WrongLength));
        assert_eq!(body(Framing::Length(3), &["ab", "cd"]), Err(WrongLength));
        assert_eq!(body(Framing::Length(0), &["a"]), Err(WrongLength));
        assert_eq!(body(Framing::Length(0), &[]).as_deref(), Ok(""));
    }
}

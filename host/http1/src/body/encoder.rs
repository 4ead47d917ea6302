//! Bodies, as they go to the other side.

use std::fmt;
use std::io::Write;

use http::HeaderMap;

use super::trailers::{is_announced, may_trail};
use crate::field::put_field;
use crate::framing::RequestFraming;

/// A body was shorter or longer than its head has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body is not as long as its head has said")
    }
}

impl std::error::Error for WrongLength {}

/// Puts around the pieces of a body what its framing asks for.
#[derive(Debug)]
pub struct BodyEncoder {
    /// `Length`: what is left of it.
    framing: RequestFraming,
}

impl BodyEncoder {
    /// For a body whose head has said so.
    pub fn new(framing: RequestFraming) -> Self {
        Self { framing }
    }

    /// Whether nothing more has a place in it, nor has to come.
    pub fn is_full(&self) -> bool {
        matches!(self.framing, RequestFraming::None | RequestFraming::Length(0))
    }

    /// Whether trailers have a place behind it.
    pub fn may_have_trailers(&self) -> bool {
        self.framing == RequestFraming::Chunked
    }

    /// Appends what goes before a piece of `length` bytes, which is not 0.
    ///
    /// # Errors
    /// There is no place for so much.
    pub fn begin_piece(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match &mut self.framing {
            RequestFraming::None => return Err(WrongLength),
            RequestFraming::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(WrongLength)?
            }
            RequestFraming::Chunked => {
                // A `Vec` takes everything.
                let _ = write!(out, "{length:x}\r\n");
            }
        }
        Ok(())
    }

    /// Appends what goes after it.
    pub fn end_piece(&self, out: &mut Vec<u8>) {
        if self.framing == RequestFraming::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of the body. `trailers` are sent as far as the head's `Trailer` announced
    /// them and a trailer may be of that name (RFC 9110, section 6.5.1).
    ///
    /// # Errors
    /// The body was too short.
    pub fn end(
        &mut self,
        announced: &HeaderMap,
        trailers: Option<&HeaderMap>,
        out: &mut Vec<u8>,
    ) -> Result<(), WrongLength> {
        match self.framing {
            RequestFraming::None | RequestFraming::Length(0) => {}
            RequestFraming::Length(_) => return Err(WrongLength),
            RequestFraming::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if may_trail(name) && is_announced(announced, name) {
                        put_field(out, name, value);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
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

    fn body(framing: RequestFraming, pieces: &[&str]) -> Result<String, WrongLength> {
        let announced = headers(&[("trailer", "x-sum, Host"), ("trailer", "x-more")]);
        let trailers =
            headers(&[("x-sum", "1"), ("host", "evil"), ("x-other", "2"), ("x-more", "3")]);
        let (mut out, mut encoder) = (Vec::new(), BodyEncoder::new(framing));
        for piece in pieces {
            encoder.begin_piece(piece.len(), &mut out)?;
            out.extend_from_slice(piece.as_bytes());
            encoder.end_piece(&mut out);
        }
        encoder.end(&announced, Some(&trailers), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn pieces_become_chunks_and_announced_trailers_follow() {
        let sent = body(RequestFraming::Chunked, &["hello, chunked world", "!"]);
        assert_eq!(
            sent.as_deref(),
            Ok("14\r\nhello, chunked world\r\n1\r\n!\r\n0\r\nx-sum: 1\r\nx-more: 3\r\n\r\n")
        );
        assert_eq!(
            body(RequestFraming::Chunked, &[]).as_deref(),
            Ok("0\r\nx-sum: 1\r\nx-more: 3\r\n\r\n")
        );
    }

    #[test]
    fn a_body_is_as_long_as_its_head_has_said() {
        assert_eq!(body(RequestFraming::Length(3), &["ab", "c"]).as_deref(), Ok("abc"));
        assert_eq!(body(RequestFraming::Length(3), &["ab"]), Err(WrongLength));
        assert_eq!(body(RequestFraming::Length(3), &["ab", "cd"]), Err(WrongLength));
        assert_eq!(body(RequestFraming::None, &["a"]), Err(WrongLength));
        assert_eq!(body(RequestFraming::None, &[]).as_deref(), Ok(""));
    }
}

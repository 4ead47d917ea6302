//! What goes to the server.

use std::fmt;
use std::io::Write;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// How the server knows where a request's body ends (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body. A `Content-Length` among the headers, which can only be 0, goes on as it
    /// is.
    None,
    /// After so many bytes.
    Length(u64),
    /// It says so itself.
    Chunked,
}

/// Appends a request head. Of `headers`, those that frame the body are left out in favour of
/// `framing`.
///
/// `target` is the parts of the request target, in origin form; like names and values of headers it
/// can't contain what would end a line, by its type or by the caller's care.
pub fn encode_head<'a>(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[&str],
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    framing: RequestFraming,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // Callers chain several sources. A loop of its own would ask at each header which one is due.
    headers.for_each(|(name, value)| {
        let frames = match *name {
            header::CONTENT_LENGTH => framing != RequestFraming::None,
            header::TRANSFER_ENCODING => true,
            _ => false,
        };
        if !frames {
            field(out, name, value);
        }
    });
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

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
                        field(out, name, value);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// What a recipient may act on before it has read the trailers.
fn may_trail(name: &HeaderName) -> bool {
    ![
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ]
    .contains(name)
}

fn is_announced(head: &HeaderMap, name: &HeaderName) -> bool {
    let lists = head.get_all(header::TRAILER).into_iter();
    let mut names = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    names.any(|announced| announced.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn head(fields: &[(&'static str, &'static str)], framing: RequestFraming) -> String {
        let mut out = Vec::new();
        encode_head(&mut out, &Method::POST, &["/base", "/x?y=1"], headers(fields).iter(), framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_framing_replaces_what_the_headers_say_of_it() {
        let fields = [("host", "b"), ("content-length", "7"), ("transfer-encoding", "chunked")];
        assert_eq!(
            head(&fields, RequestFraming::Length(12)),
            "POST /base/x?y=1 HTTP/1.1\r\nhost: b\r\ncontent-length: 12\r\n\r\n"
        );
        assert_eq!(
            head(&fields, RequestFraming::Chunked),
            "POST /base/x?y=1 HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let empty = [("host", "b"), ("content-length", "0")];
        assert_eq!(
            head(&empty, RequestFraming::None),
            "POST /base/x?y=1 HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n"
        );
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

//! Response heads, as they come from a server.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use httparse::{ParserConfig, Status};
use smallvec::SmallVec;

use crate::framing::Framing;
use crate::limits::MAX_HEADERS;

/// Interim responses (1xx) to one request that are passed over.
const MAX_INTERIM: u32 = 100;

/// Room for what a proxy adds to the headers.
const ROOM: usize = 4;

/// The head of a final response, or of one that switches protocols.
#[derive(Debug)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, as they came but for a `Content-Length`: that is there only if it frames the
    /// body, or would, once, and as one plain number.
    pub headers: HeaderMap,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the server will take another request on this connection once the body has ended.
    pub keep_alive: bool,
}

/// A head that can't be used. Nothing of its connection can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// It is no HTTP/1 response.
    Syntax(httparse::Error),
    /// It is longer than it may be.
    TooLarge,
    /// More and more interim responses.
    TooManyInterim,
    /// `Content-Length` is no number, or several.
    ContentLength,
    /// Another transfer coding than `chunked`, or one where there can be none.
    TransferEncoding,
}

impl fmt::Display for ResponseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "invalid response head: {error}"),
            Self::TooLarge => f.write_str("the response head is too large"),
            Self::TooManyInterim => write!(f, "more than {MAX_INTERIM} interim responses"),
            Self::ContentLength => f.write_str("invalid Content-Length in the response"),
            Self::TransferEncoding => f.write_str("unknown transfer coding of the response"),
        }
    }
}

impl std::error::Error for ResponseFault {}

/// Reads the head of the response to one request.
#[derive(Debug)]
pub struct ResponseHeadParser {
    max_size: usize,
    to_head: bool,
    /// Bytes at the start of the buffer in which no head has ended.
    seen: usize,
    interim: u32,
}

impl ResponseHeadParser {
    /// For a head of up to `max_size` bytes. `to_head`: the request was a HEAD.
    pub fn new(max_size: usize, to_head: bool) -> Self {
        Self { max_size, to_head, seen: 0, interim: 0 }
    }

    /// Whether anything of a response has arrived.
    pub fn has_begun(&self) -> bool {
        self.seen > 0 || self.interim > 0
    }

    /// Takes the head from the front of the buffer, and interim ones before it. None: it is not all
    /// there yet.
    ///
    /// # Errors
    /// It is no head that can be used.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> Result<Option<ResponseHead>, ResponseFault> {
        self.parse_into(buffer, HeaderMap::new)
    }

    /// The same, with an empty map to put headers into, which may have the memory for them.
    ///
    /// # Errors
    /// It is no head that can be used.
    pub fn parse_into(
        &mut self,
        buffer: &mut BytesMut,
        map: impl Fn() -> HeaderMap,
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        loop {
            // What comes byte by byte is not parsed from its beginning with every byte.
            if self.seen > 0 && !has_blank_line(&buffer[self.seen.saturating_sub(3)..]) {
                return self.wait(buffer);
            }
            let Some(head) = self.take(buffer, &map)? else { return self.wait(buffer) };
            self.seen = 0;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ResponseFault::TooManyInterim);
            }
        }
    }

    fn wait(&mut self, buffer: &BytesMut) -> Result<Option<ResponseHead>, ResponseFault> {
        self.seen = buffer.len();
        if self.seen < self.max_size { Ok(None) } else { Err(ResponseFault::TooLarge) }
    }

    fn take(
        &self,
        buffer: &mut BytesMut,
        map: impl Fn() -> HeaderMap,
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let parser = ParserConfig::default();
        let length =
            match parser.parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields) {
                Ok(Status::Complete(length)) => length,
                Ok(Status::Partial) => return Ok(None),
                Err(error) => return Err(ResponseFault::Syntax(error)),
            };
        if length > self.max_size {
            return Err(ResponseFault::TooLarge);
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(ResponseFault::Syntax(httparse::Error::Status))?;
        let is_http_11 = parsed.version == Some(1);
        let start = buffer.as_ptr().addr();
        let range = |part: &[u8]| {
            let from = part.as_ptr().addr() - start;
            from..from + part.len()
        };
        let ranges =
            parsed.headers.iter().map(|field| (range(field.name.as_bytes()), range(field.value)));
        let ranges: SmallVec<[(Range<usize>, Range<usize>); 24]> = ranges.collect();

        let bytes = buffer.split_to(length).freeze();
        // An interim one goes nowhere.
        let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        let mut headers = if is_interim { HeaderMap::new() } else { map() };
        headers.reserve(ranges.len() + ROOM);
        let mut framing = Fields::default();
        for (name, value) in ranges {
            let invalid = |_| ResponseFault::Syntax(httparse::Error::HeaderName);
            let name = HeaderName::from_bytes(&bytes[name]).map_err(invalid)?;
            let value = HeaderValue::from_maybe_shared(bytes.slice(value));
            let value = value.map_err(|_| ResponseFault::Syntax(httparse::Error::HeaderValue))?;
            match framing.note(&name, &value)? {
                Noted::New => drop(headers.append(name, value)),
                Noted::Length(length) => drop(headers.append(name, length.into())),
                Noted::Again => {}
            }
        }
        let (framing, keep_alive) = framing.decide(status, is_http_11, self.to_head)?;
        if framing == Framing::Chunked {
            // It must not go on beside the coding that overrides it (RFC 9112, section 6.3).
            headers.remove(header::CONTENT_LENGTH);
        }
        Ok(Some(ResponseHead { status, headers, framing, keep_alive }))
    }
}

/// Whether a head may end in it.
fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// What the headers say of body and connection.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    /// Whether all codings are one `chunked`.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
}

/// What a header says.
enum Noted {
    /// Something new: it goes on.
    New,
    /// This length, in more digits than it takes: they could be read in two ways.
    Length(u64),
    /// The same again.
    Again,
}

impl Fields {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<Noted, ResponseFault> {
        match *name {
            header::CONTENT_LENGTH => {
                let is_first = self.length.is_none();
                let mut items = 0;
                // Several that agree, in one field or in more, are one (RFC 9112, section 6.3).
                for item in value.as_bytes().split(|byte| *byte == b',') {
                    let length = digits(item.trim_ascii()).ok_or(ResponseFault::ContentLength)?;
                    if *self.length.get_or_insert(length) != length {
                        return Err(ResponseFault::ContentLength);
                    }
                    items += 1;
                }
                let is_plain =
                    items == 1 && (value.len() == 1 || !value.as_bytes().starts_with(b"0"));
                return Ok(match self.length {
                    Some(length) if is_first && !is_plain => Noted::Length(length),
                    _ if is_first => Noted::New,
                    _ => Noted::Again,
                });
            }
            header::TRANSFER_ENCODING => {
                let is_first = self.chunked.is_none();
                self.chunked = Some(is_first && value.as_bytes().eq_ignore_ascii_case(b"chunked"));
            }
            header::CONNECTION => {
                for option in value.as_bytes().split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(Noted::New)
    }

    /// In the order of RFC 9112, section 6.3.
    fn decide(
        &self,
        status: StatusCode,
        is_http_11: bool,
        to_head: bool,
    ) -> Result<(Framing, bool), ResponseFault> {
        let keep_alive = !self.close && (is_http_11 || self.keep_alive);
        let has_no_body =
            to_head || status.is_informational() || [204, 304].contains(&status.as_u16());
        if has_no_body {
            return Ok((Framing::Length(0), keep_alive));
        }
        match (self.chunked, self.length) {
            // A length beside the coding is how responses are smuggled: its connection is not used
            // again.
            (Some(true), length) if is_http_11 => {
                Ok((Framing::Chunked, keep_alive && length.is_none()))
            }
            (Some(_), _) => Err(ResponseFault::TransferEncoding),
            (None, Some(length)) => Ok((Framing::Length(length), keep_alive)),
            (None, None) => Ok((Framing::UntilClose, false)),
        }
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;

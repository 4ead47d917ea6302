//! Response heads, as they come from a server.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use fusebox_head::{CameFields, FieldIndex, HeaderFields, HopField};
use http::{HeaderMap, StatusCode, header};
use httparse::{Error, ParserConfig, Status};

use crate::framing::Framing;
use crate::head::{BodyFields, LengthFlaw, Noted, Progress, items, place};
use crate::limits::{MAX_HEADERS, MAX_RESPONSE_HEADERS};

/// Interim responses (1xx) to one request.
const MAX_INTERIM: u32 = 100;

/// The head of a final response, or of one that switches protocols.
#[derive(Debug)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, as they came but for a `Content-Length`: that is there only if it frames the
    /// body, or would, once, and as one plain number.
    pub headers: HeaderFields,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the server will take another request on this connection once the body has ended.
    pub keep_alive: bool,
}

/// A head that can't be used. Nothing of its connection can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// It is no HTTP/1 response.
    Syntax(Error),
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
    progress: Progress,
    interim: u32,
}

impl ResponseHeadParser {
    /// For a head of up to `max_size` bytes. `to_head`: the request was a HEAD.
    pub fn new(max_size: usize, to_head: bool) -> Self {
        Self { max_size, to_head, progress: Progress::default(), interim: 0 }
    }

    /// Whether anything of a response has arrived.
    pub fn has_begun(&self) -> bool {
        self.progress.has_begun() || self.interim > 0
    }

    /// Takes the head from the front of the buffer, and interim ones before it. None: it is not all
    /// there yet.
    ///
    /// # Errors
    /// It is no head that can be used.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> Result<Option<ResponseHead>, ResponseFault> {
        self.parse_into(buffer, FieldIndex::default, |_, _| {})
    }

    /// The same, with an empty index to put headers into, which may have the memory for them. Each
    /// interim head is passed to `interim`.
    ///
    /// # Errors
    /// It is no head that can be used.
    pub fn parse_into(
        &mut self,
        buffer: &mut BytesMut,
        index: impl Fn() -> FieldIndex,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        loop {
            if !self.progress.may_be_whole(buffer) {
                return self.wait(buffer);
            }
            let Some(head) = self.take(buffer, &index)? else { return self.wait(buffer) };
            self.progress.begin();
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ResponseFault::TooManyInterim);
            }
            interim(head.status, head.headers.into_map());
        }
    }

    fn wait(&mut self, buffer: &BytesMut) -> Result<Option<ResponseHead>, ResponseFault> {
        self.progress.wait_beyond(buffer.len());
        if buffer.len() < self.max_size { Ok(None) } else { Err(ResponseFault::TooLarge) }
    }

    fn take(
        &self,
        buffer: &mut BytesMut,
        index: impl Fn() -> FieldIndex,
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        match self.take_fields::<MAX_HEADERS>(buffer, &index) {
            Err(ResponseFault::Syntax(Error::TooManyHeaders)) => self.take_long(buffer, index),
            taken => taken,
        }
    }

    /// The same of one with many headers. (A function of its own, since its list has 32 KB, which
    /// the usual head should not have to find on the stack.)
    #[cold]
    #[inline(never)]
    fn take_long(
        &self,
        buffer: &mut BytesMut,
        index: impl Fn() -> FieldIndex,
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        self.take_fields::<MAX_RESPONSE_HEADERS>(buffer, index)
    }

    fn take_fields<const MOST: usize>(
        &self,
        buffer: &mut BytesMut,
        index: impl Fn() -> FieldIndex,
    ) -> Result<Option<ResponseHead>, ResponseFault> {
        let mut fields = [const { MaybeUninit::uninit() }; MOST];
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
        let status = status.ok_or(ResponseFault::Syntax(Error::Status))?;
        let is_http_11 = parsed.version == Some(1);
        // An interim one has no use for the memory of a whole one.
        let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        let mut places = if is_interim { FieldIndex::default() } else { index() };
        let found = parsed.headers.iter();
        let found = found.map(|it| [it.name.as_bytes(), it.value].map(|part| place(buffer, part)));
        if !places.add(found) {
            return Err(ResponseFault::Syntax(Error::HeaderName));
        }
        let mut headers = CameFields::new(buffer.split_to(length), places);
        let said = read(&mut headers).map_err(|_| ResponseFault::ContentLength)?;
        let (framing, keep_alive) = decide(&said, status, is_http_11, self.to_head)?;
        if framing == Framing::Chunked {
            // It must not go on beside the coding that overrides it (RFC 9112, section 6.3).
            headers.remove(&header::CONTENT_LENGTH);
        }
        Ok(Some(ResponseHead { status, headers: headers.into(), framing, keep_alive }))
    }
}

/// What the fields say of the body and the connection. A length stays once, as a plain number.
fn read(headers: &mut CameFields) -> Result<BodyFields, LengthFlaw> {
    let mut said = BodyFields::default();
    headers.of_hop(HopField::Coding).for_each(|value| said.note_coding(value));
    headers.of_hop(HopField::Connection).for_each(|value| said.note_connection(value));
    let mut is_plain = true;
    for value in headers.of_hop(HopField::Length) {
        is_plain &= matches!(said.note_length(value)?, Noted::New);
    }
    if !is_plain {
        let number = headers.of_hop(HopField::Length).next().map(plain_part);
        headers.keep_first(&header::CONTENT_LENGTH, number.unwrap_or_default());
    }
    Ok(said)
}

/// Where the first number of a list stands in it, without zeros in front.
fn plain_part(list: &[u8]) -> Range<usize> {
    let number = items(list).next().unwrap_or(list);
    let zeros = number.iter().take_while(|digit| **digit == b'0').count();
    place(list, &number[zeros.min(number.len().saturating_sub(1))..])
}

/// In the order of RFC 9112, section 6.3.
fn decide(
    said: &BodyFields,
    status: StatusCode,
    is_http_11: bool,
    to_head: bool,
) -> Result<(Framing, bool), ResponseFault> {
    let keep_alive = said.keeps_connection(is_http_11);
    let has_no_body = to_head || status.is_informational() || [204, 304].contains(&status.as_u16());
    if has_no_body {
        return Ok((Framing::Length(0), keep_alive));
    }
    match (said.chunked, said.length) {
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

#[cfg(test)]
mod tests;

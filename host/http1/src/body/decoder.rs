//! Bodies, as they come from the other side.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use fusebox_head::field_name;
use http::{HeaderMap, HeaderValue};
use httparse::Status;

use super::trailers::may_trail;
use crate::framing::Framing;
use crate::head::Progress;
use crate::limits::MAX_HEADERS;

/// Bytes of the lines that say how long a chunk is, beyond the digits, in one body; and of one such
/// line. hyper's bound.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Of one such line in a request. Nothing that is known to be of use needs more, and what reads
/// them otherwise than the next one is how requests are smuggled.
const MAX_REQUEST_EXTENSION: usize = 256;

/// The digits of a chunk's length that have a place in 64 bits.
const MAX_DIGITS: usize = 16;

/// Bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// How much is worth reading at once.
const READ: usize = 64 * 1024;

/// What became of some bytes.
#[derive(Debug)]
pub enum Decoded {
    /// A piece of the body, which is not empty.
    Data(Bytes),
    /// The trailers. After them the body has ended.
    Trailers(HeaderMap),
    /// The body has ended. What is left in the buffer does not belong to it.
    End,
    /// More bytes are needed.
    More,
}

/// A body that can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The connection has ended before the body.
    Incomplete,
    /// A chunk does not begin with its length, or does not end where it has to.
    Chunk,
    /// The lines that say how long chunks are have too much else in them.
    Extensions,
    /// The trailers are invalid, or too long.
    Trailers,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "the connection ended before the body",
            Self::Chunk => "invalid chunk in the body",
            Self::Extensions => "too long chunk extensions in the body",
            Self::Trailers => "invalid or too long trailers",
        })
    }
}

impl std::error::Error for BodyError {}

/// Takes a body out of the bytes that come, whatever pieces they come in.
#[derive(Debug)]
pub struct BodyDecoder {
    state: BodyState,
    of_request: bool,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    /// Of a line or of trailers.
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// So much is left.
    Length(u64),
    UntilClose,
    /// A line with a chunk's length comes next.
    ChunkSize,
    /// So much of a chunk is left.
    Chunk(u64),
    /// The end of its line comes next.
    ChunkEnd,
    Trailers,
    Ended,
}

impl BodyDecoder {
    /// For the body of a request that ends so. It is held to more than one from an upstream, which
    /// is not chosen by whoever means harm.
    pub fn of_request(framing: Framing) -> Self {
        Self::new(framing, true)
    }

    /// For the body of a response that ends so.
    pub fn of_response(framing: Framing) -> Self {
        Self::new(framing, false)
    }

    fn new(framing: Framing, of_request: bool) -> Self {
        let state = match framing {
            Framing::Length(0) => BodyState::Ended,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::ChunkSize,
            Framing::UntilClose => BodyState::UntilClose,
        };
        Self { state, of_request, extensions: 0, progress: Progress::default() }
    }

    /// Whether the body has ended.
    pub fn is_end(&self) -> bool {
        self.state == BodyState::Ended
    }

    /// How many bytes are still to come, if the head has said so.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            BodyState::Length(left) => Some(left),
            BodyState::Ended => Some(0),
            _ => None,
        }
    }

    /// How much to read next: never beyond a body whose length is known.
    pub fn wanted(&self) -> usize {
        match self.state {
            BodyState::Length(left) => usize::try_from(left).unwrap_or(READ).min(READ),
            _ => READ,
        }
    }

    /// Takes what it can from the front of the buffer.
    ///
    /// # Errors
    /// The body is invalid.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        loop {
            if self.state == BodyState::Ended {
                return Ok(Decoded::End);
            }
            if buffer.is_empty() {
                return Ok(Decoded::More);
            }
            match self.state {
                BodyState::Length(left) => {
                    let (data, left) = take(buffer, left);
                    self.state = if left == 0 { BodyState::Ended } else { BodyState::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                BodyState::UntilClose => return Ok(Decoded::Data(buffer.split().freeze())),
                BodyState::Chunk(left) => {
                    let (data, left) = take(buffer, left);
                    self.state =
                        if left == 0 { BodyState::ChunkEnd } else { BodyState::Chunk(left) };
                    return Ok(Decoded::Data(data));
                }
                BodyState::ChunkEnd => {
                    if !b"\r\n".starts_with(&buffer[..buffer.len().min(2)]) {
                        return Err(BodyError::Chunk);
                    }
                    if buffer.len() < 2 {
                        return Ok(Decoded::More);
                    }
                    let _ = buffer.split_to(2);
                    self.state = BodyState::ChunkSize;
                }
                BodyState::ChunkSize => {
                    let Some(size) = self.chunk_size(buffer)? else { return Ok(Decoded::More) };
                    self.state =
                        if size == 0 { BodyState::Trailers } else { BodyState::Chunk(size) };
                }
                BodyState::Trailers => {
                    let Some(trailers) = self.trailers(buffer)? else { return Ok(Decoded::More) };
                    self.state = BodyState::Ended;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
                BodyState::Ended => {}
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The body has not.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            BodyState::UntilClose | BodyState::Ended => {
                self.state = BodyState::Ended;
                Ok(())
            }
            _ => Err(BodyError::Incomplete),
        }
    }

    fn chunk_size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, BodyError> {
        let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || digits > MAX_DIGITS {
            return Err(BodyError::Chunk);
        }
        let after = &buffer[digits..];
        let extension = after.iter().take_while(|byte| is_of_text(**byte)).count();
        if extension > self.longest_extension() {
            return Err(BodyError::Extensions);
        }
        match after[extension..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => {}
            _ => return Err(BodyError::Chunk),
        }
        if !self.takes_extension(&after[..extension]) {
            return Err(BodyError::Chunk);
        }
        self.extensions += extension;
        if self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::Extensions);
        }
        let line = buffer.split_to(digits + extension + 2);
        let digits = str::from_utf8(&line[..digits]).map_err(|_| BodyError::Chunk)?;
        u64::from_str_radix(digits, 16).map(Some).map_err(|_| BodyError::Chunk)
    }

    fn longest_extension(&self) -> usize {
        if self.of_request { MAX_REQUEST_EXTENSION } else { MAX_EXTENSIONS }
    }

    /// Whether it is one, or nothing. Servers have been seen that fill up the line with spaces.
    fn takes_extension(&self, text: &[u8]) -> bool {
        match text.trim_ascii_start() {
            [] => text.is_empty() || !self.of_request,
            [first, ..] => *first == b';',
        }
    }

    /// The trailers, if they are all there.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<HeaderMap>, BodyError> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            return Ok(Some(HeaderMap::new()));
        }
        if !self.progress.may_be_whole(buffer) && buffer.len() < MAX_TRAILERS {
            self.progress.wait_beyond(buffer.len());
            return Ok(None);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let (length, fields) = match httparse::parse_headers(buffer, &mut fields) {
            Ok(Status::Complete(parsed)) => parsed,
            Ok(Status::Partial) if buffer.len() < MAX_TRAILERS => {
                self.progress.wait_beyond(buffer.len());
                return Ok(None);
            }
            Ok(Status::Partial) | Err(_) => return Err(BodyError::Trailers),
        };
        if length > MAX_TRAILERS || !has_strict_lines(&buffer[..length]) {
            return Err(BodyError::Trailers);
        }
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = field_name(field.name.as_bytes()).ok_or(BodyError::Trailers)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| BodyError::Trailers)?;
            if !self.of_request || may_trail(&name) {
                trailers.append(name, value);
            }
        }
        buffer.advance(length);
        Ok(Some(trailers))
    }
}

/// Whether a byte may stand in a line beside what has a meaning in it.
fn is_of_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Whether each LF is the end of a CR LF.
fn has_strict_lines(bytes: &[u8]) -> bool {
    bytes.first() != Some(&b'\n')
        && bytes.windows(2).all(|pair| pair[1] != b'\n' || pair[0] == b'\r')
}

/// Up to `left` bytes from the front, and what is left then.
fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(length).freeze(), left - length as u64)
}

#[cfg(test)]
mod tests;

//! Bodies, as they come from the other side.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

use crate::framing::Framing;
use crate::limits::MAX_HEADERS;

/// Bytes of the lines that say how long a chunk is, beyond the digits, in one body; and of one such
/// line. hyper's bound.
const MAX_EXTENSIONS: usize = 16 * 1024;

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
            Self::Incomplete => "the connection ended before the response body",
            Self::Chunk => "invalid chunk in the response body",
            Self::Extensions => "too long chunk extensions in the response body",
            Self::Trailers => "invalid or too long trailers of the response",
        })
    }
}

impl std::error::Error for BodyError {}

/// Takes a body out of the bytes that come, whatever pieces they come in.
#[derive(Debug)]
pub struct BodyDecoder {
    state: BodyState,
    /// Bytes of chunk extensions so far.
    extensions: usize,
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
    /// For a body that ends so.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => BodyState::Ended,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::ChunkSize,
            Framing::UntilClose => BodyState::UntilClose,
        };
        Self { state, extensions: 0 }
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
                    let Some(trailers) = trailers(buffer)? else { return Ok(Decoded::More) };
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
        if !buffer[0].is_ascii_hexdigit() {
            // httparse would take a line without digits for a 0.
            return Err(BodyError::Chunk);
        }
        let Some(line) = buffer.iter().take(MAX_EXTENSIONS).position(|byte| *byte == b'\n') else {
            return if buffer.len() < MAX_EXTENSIONS {
                Ok(None)
            } else {
                Err(BodyError::Extensions)
            };
        };
        let length = line + 1;
        let size = match httparse::parse_chunk_size(&buffer[..length]) {
            Ok(Status::Complete((end, size))) if end == length => size,
            // Also of a line feed that does not end the line.
            _ => return Err(BodyError::Chunk),
        };
        let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.extensions += length - digits - 2;
        if self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::Extensions);
        }
        let _ = buffer.split_to(length);
        Ok(Some(size))
    }
}

/// Up to `left` bytes from the front, and what is left then.
fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(length).freeze(), left - length as u64)
}

/// The trailers, if they are all there.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, BodyError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (length, fields) = match httparse::parse_headers(buffer, &mut fields) {
        Ok(Status::Complete(parsed)) => parsed,
        Ok(Status::Partial) if buffer.len() < MAX_TRAILERS => return Ok(None),
        Ok(Status::Partial) | Err(_) => return Err(BodyError::Trailers),
    };
    let is_strict = buffer[..length]
        .iter()
        .zip(&buffer[1..length])
        .all(|(first, second)| *second != b'\n' || *first == b'\r');
    if length > MAX_TRAILERS || buffer[0] == b'\n' || !is_strict {
        return Err(BodyError::Trailers);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BodyError::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| BodyError::Trailers)?;
        trailers.append(name, value);
    }
    let _ = buffer.split_to(length);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests;

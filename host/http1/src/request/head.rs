//! Request heads, as they come from a client.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use fusebox_head::field_name;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use httparse::Status;

use super::diagnosis::{diagnose, too_large};
use super::fault::RequestFault;
use super::target::target;
use crate::exchange::HttpExchange;
use crate::framing::Framing;
use crate::head::{
    BodyFields, FieldPlaces, LengthFlaw, Noted, Progress, ROOM, find_places, is_shadow, items,
    place,
};
use crate::limits::{MAX_BLANK_LINES, MAX_HEADERS};

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method, which is not `CONNECT`.
    pub method: Method,
    /// Its target, as it came: a path, an absolute URI, or `*` if the method is `OPTIONS`.
    pub target: Uri,
    /// 1.0 or 1.1; another one if it was not read here.
    pub version: Version,
    /// Its headers, as they came but for a `Content-Length`, which is there once and as one plain
    /// number, and for shadows, which are not there: names that are, but for a `_`, others that
    /// frame the body or say where a request comes from.
    pub headers: HeaderMap,
    /// How its body ends. Never with the connection; `Length(0)`: there is none.
    pub framing: Framing,
    /// How it is answered.
    pub exchange: HttpExchange,
}

/// Reads the heads of the requests of one connection.
#[derive(Debug)]
pub struct RequestHeadParser {
    max_size: usize,
    progress: Progress,
    /// Before the head.
    blank_lines: u8,
}

impl RequestHeadParser {
    /// For heads of up to `max_size` bytes.
    pub fn new(max_size: usize) -> Self {
        Self { max_size, progress: Progress::default(), blank_lines: 0 }
    }

    /// Whether anything of the next head has been seen. Blank lines before it are nothing.
    pub fn has_begun(&self) -> bool {
        self.progress.has_begun()
    }

    /// Takes a head from the front of the buffer, with an empty map to put its headers into, which
    /// may have the memory for them. None: it is not all there yet. After a head comes the next
    /// one, behind the body of this one.
    ///
    /// # Errors
    /// It is no head that can be used.
    pub fn parse_into(
        &mut self,
        buffer: &mut BytesMut,
        map: impl Fn() -> HeaderMap,
    ) -> Result<Option<RequestHead>, RequestFault> {
        if !self.has_begun() && !self.skip_blank_lines(buffer)? {
            return Ok(None);
        }
        let is_full = buffer.len() >= self.max_size;
        if (is_full || self.progress.may_be_whole(buffer))
            && let Some(head) = take(buffer, self.max_size, map)?
        {
            self.progress.begin();
            self.blank_lines = 0;
            return Ok(Some(head));
        }
        if is_full {
            return Err(too_large(&buffer[..self.max_size]));
        }
        self.progress.wait_beyond(buffer.len());
        Ok(None)
    }

    /// Whether anything comes after them.
    fn skip_blank_lines(&mut self, buffer: &mut BytesMut) -> Result<bool, RequestFault> {
        loop {
            match **buffer {
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] if self.blank_lines == MAX_BLANK_LINES => {
                    return Err(RequestFault::BlankLines);
                }
                [b'\r', b'\n', ..] => {
                    self.blank_lines += 1;
                    buffer.advance(2);
                }
                [b'\r' | b'\n', ..] => return Err(RequestFault::LineEnd),
                _ => return Ok(true),
            }
        }
    }
}

#[inline]
fn take(
    buffer: &mut BytesMut,
    max_size: usize,
    map: impl Fn() -> HeaderMap,
) -> Result<Option<RequestHead>, RequestFault> {
    let bytes = &buffer[..buffer.len().min(max_size)];
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return diagnose(bytes, error).map_or(Ok(None), Err),
    };
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else { return Ok(None) };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| RequestFault::RequestLine)?;
    if method == Method::CONNECT {
        return Err(RequestFault::Connect);
    }
    let path = place(bytes, path.as_bytes());
    let is_http_11 = parsed.version == Some(1);
    let mut places = FieldPlaces::new();
    find_places(&mut places, bytes, parsed.headers);
    if !has_strict_lines(&bytes[..length], &places) {
        return Err(RequestFault::LineEnd);
    }

    let bytes = buffer.split_to(length).freeze();
    let target = target(&method, bytes.slice(path))?;
    let mut headers = map();
    headers.reserve(places.len() + ROOM);
    let mut said = RequestFields::default();
    for (name, value) in &places {
        let bytes_of_name = &bytes[name.clone()];
        if is_shadow(bytes_of_name) {
            continue;
        }
        let name = field_name(bytes_of_name).ok_or(RequestFault::FieldName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(value.clone()));
        let value = value.map_err(|_| RequestFault::FieldValue)?;
        match said.note(&name, &value)? {
            Noted::New => drop(headers.append(name, value)),
            Noted::Length(length) => drop(headers.append(name, length.into())),
            Noted::Again => {}
        }
    }
    let framing = said.framing(is_http_11)?;
    let exchange = HttpExchange {
        is_http_11,
        is_head: method == Method::HEAD,
        // HTTP/1.0 does not know it, and where there is no body nobody waits (RFC 9110, section
        // 10.1.1).
        expects_continue: said.expects_continue && is_http_11 && framing != Framing::Length(0),
        takes_trailers: said.takes_trailers,
        is_kept_alive: said.of_body.keeps_connection(is_http_11),
        has_switched: false,
    };
    let version = if is_http_11 { Version::HTTP_11 } else { Version::HTTP_10 };
    Ok(Some(RequestHead { method, target, version, headers, framing, exchange }))
}

/// Whether each line of the head ends with CR LF. `httparse` takes a LF alone, and nothing else
/// that could be an end, so the places where a line has ended are all that has to be looked at.
fn has_strict_lines(head: &[u8], places: &FieldPlaces) -> bool {
    let mut begins = places.iter().map(|(name, _)| name.start);
    begins.all(|begin| head[..begin].ends_with(b"\r\n")) && head.ends_with(b"\r\n\r\n")
}

/// What the fields say.
#[derive(Default)]
struct RequestFields {
    of_body: BodyFields,
    expects_continue: bool,
    takes_trailers: bool,
}

impl RequestFields {
    #[inline]
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<Noted, RequestFault> {
        match *name {
            header::EXPECT => {
                self.expects_continue |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            header::TE => {
                self.takes_trailers |=
                    items(value.as_bytes()).any(|it| it.eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
        self.of_body.note(name, value).map_err(|flaw| match flaw {
            LengthFlaw::NoNumber => RequestFault::ContentLength,
            LengthFlaw::Different => RequestFault::DifferentLengths,
        })
    }

    /// As RFC 9112, section 6.3 has it, where it leaves no choice of another reading.
    fn framing(&self, is_http_11: bool) -> Result<Framing, RequestFault> {
        match (self.of_body.chunked, self.of_body.length) {
            (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (Some(_), Some(_)) => Err(RequestFault::LengthAndCoding),
            (Some(_), None) if !is_http_11 => Err(RequestFault::CodingInHttp10),
            (Some(true), None) => Ok(Framing::Chunked),
            (Some(false), None) => Err(RequestFault::Coding),
        }
    }
}

#[cfg(test)]
mod tests;

//! One request and its response on a connection from a client: how it is answered, and whether
//! another one follows.

use fusebox_head::HeaderFields;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::body::BodyEncoder;
use crate::field::{put_field, put_length};
use crate::framing::Framing;
use crate::head::plain_number;

/// How the response to a request is written, and whether its connection serves another one.
///
/// Responses are HTTP/1.1, whatever the client speaks (RFC 9110, section 2.5). How a body is framed
/// is decided here and nowhere else: what the headers say of it is left out, and so is
/// `Connection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpExchange {
    pub(crate) is_http_11: bool,
    pub(crate) is_head: bool,
    pub(crate) expects_continue: bool,
    pub(crate) takes_trailers: bool,
    pub(crate) is_kept_alive: bool,
    pub(crate) has_switched: bool,
}

impl HttpExchange {
    /// For the answer to what is no request, the last one on its connection.
    pub fn without_request() -> Self {
        Self {
            is_http_11: true,
            is_head: false,
            expects_continue: false,
            takes_trailers: false,
            is_kept_alive: false,
            has_switched: false,
        }
    }

    /// Whether the client waits with its body until it is told to continue (RFC 9110, section
    /// 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the connection serves another request once this response has been sent and this
    /// request has been read, both to their end. It is known for certain when the response's head
    /// has been encoded.
    pub fn is_kept_alive(&self) -> bool {
        self.is_kept_alive
    }

    /// Whether the head that was encoded has switched the connection to another protocol (RFC 9110,
    /// section 15.2.2).
    pub fn has_switched(&self) -> bool {
        self.has_switched
    }

    /// The connection ends after the response. To be called before its head is encoded, which tells
    /// the client.
    pub fn end_after_this(&mut self) {
        self.is_kept_alive = false;
    }

    /// Whether a response of this status has no body, whatever its headers say (RFC 9110, section
    /// 6.4.1).
    pub fn has_no_body(&self, status: StatusCode) -> bool {
        self.is_head || never_has_a_body(status)
    }

    /// Appends an interim response (1xx). Returns whether it did: HTTP/1.0 does not know them, and
    /// a switch of protocols is not one.
    pub fn encode_interim<'a>(
        &self,
        status: StatusCode,
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        if !self.is_http_11 || !is_interim {
            return false;
        }
        put_status_line(out, status);
        headers.for_each(|(name, value)| {
            if !is_of_connection(name) && *name != header::CONTENT_LENGTH {
                put_field(out, name, value);
            }
        });
        out.extend_from_slice(b"\r\n");
        true
    }

    /// Appends the head of the response, and returns what encodes its body. `length`: that of the
    /// body, if it is known. Without it the body goes in chunks, or, to HTTP/1.0, ends with the
    /// connection. A response that has no body keeps the `Content-Length` of `headers` where it may
    /// say how long it would be: to a `HEAD`, and with a 304 (RFC 9110, section 8.6). `own` fields,
    /// none of which speaks of body or connection, go in place of those of the same name.
    pub fn encode_response<'a>(
        &mut self,
        status: StatusCode,
        headers: &HeaderFields,
        own: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> + Clone,
        length: Option<u64>,
        out: &mut Vec<u8>,
    ) -> BodyEncoder {
        let framing = match length {
            _ if self.has_no_body(status) => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None if self.is_http_11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        // A switch of protocols leaves it to the new one.
        self.is_kept_alive &= framing != Framing::UntilClose && !status.is_informational();

        put_status_line(out, status);
        let mut encoder = BodyEncoder::new(framing, self.takes_trailers);
        if framing == Framing::Chunked {
            headers.get_all(&header::TRAILER).for_each(|list| encoder.announce(list));
        }
        headers.put_into(out, own.clone().map(|(name, _)| name));
        let said = || headers.get_all(&header::CONTENT_LENGTH).find_map(plain_number);
        own.for_each(|(name, value)| put_field(out, name, value));
        let shown = match framing {
            Framing::Chunked => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                None
            }
            Framing::UntilClose => None,
            _ if status == StatusCode::NOT_MODIFIED => said(),
            _ if never_has_a_body(status) => None,
            // The body of nothing may stand for one that is not sent.
            _ if self.is_head => said().or(length.filter(|length| *length > 0)),
            Framing::Length(length) => Some(length),
        };
        if let Some(length) = shown {
            put_length(out, length);
        }
        if !self.is_kept_alive {
            self.has_switched = status == StatusCode::SWITCHING_PROTOCOLS;
            out.extend_from_slice(match self.has_switched {
                true => b"connection: upgrade\r\n",
                false => b"connection: close\r\n",
            });
        } else if !self.is_http_11 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        encoder
    }
}

fn never_has_a_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// What the exchange itself says, if anybody.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING)
}

fn put_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;

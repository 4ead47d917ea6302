//! gRPC by hand: messages of one text, which is all that B says, and the status that ends a call.
//! For two messages no compiler of `service_b.proto` need be there.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fusebox_resilience::GrpcStatus;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::answer::AnswerBody;

/// What B is asked.
pub(crate) const HELLO: &str = "/fusebox.example.ServiceB/Hello";
/// What whoever looks after B asks.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The tag of a text that is field 1, of which messages here consist.
const TEXT: u8 = 1 << 3 | 2;
/// `HealthCheckResponse { status: SERVING }`.
const SERVING: [u8; 2] = [1 << 3, 1];

/// A message, with the five bytes in front that say how long it is.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// The message `{ message: text }`.
fn reply(text: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len() + 6);
    if !text.is_empty() {
        message.push(TEXT);
        let mut length = text.len();
        while length >= 1 << 7 {
            message.push(length as u8 | 1 << 7);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(text.bytes());
    }
    message
}

/// The text of a framed message. `None`: it is none with one text.
pub(crate) fn text(frame: &[u8]) -> Option<String> {
    let (&[0, a, b, c, d], message) = frame.split_first_chunk()? else { return None };
    if message.len() != u32::from_be_bytes([a, b, c, d]) as usize {
        return None;
    }
    let Some((&TEXT, rest)) = message.split_first() else {
        return message.is_empty().then(String::new);
    };
    let mut length = 0;
    for (place, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & !(1 << 7)) << (7 * place);
        if byte >> 7 == 0 {
            let text = &rest[place + 1..];
            return String::from_utf8(text.to_vec()).ok().filter(|text| text.len() == length);
        }
    }
    None
}

/// The answer to what is not the question for B itself.
pub(crate) fn aside(path: &str) -> Option<Response<AnswerBody>> {
    match path {
        HELLO => None,
        HEALTH => Some(ended(GrpcStatus::Ok, None, Some(AnswerBody::new(framed(&SERVING))))),
        _ => Some(ended(GrpcStatus::Unimplemented, None, None)),
    }
}

/// B's answer, for the one that it gives by HTTP. A failure with a body has its status behind a
/// message, when it can't be taken for anything but a success before.
pub(crate) fn answer(
    status: StatusCode,
    pushback: Option<Duration>,
    said: &str,
    body_delay: Duration,
) -> Response<AnswerBody> {
    let status = match status.as_u16() {
        200..=299 => GrpcStatus::Ok,
        429 => GrpcStatus::ResourceExhausted,
        500 => GrpcStatus::Internal,
        504 => GrpcStatus::DeadlineExceeded,
        _ => GrpcStatus::of_http(status),
    };
    let message = (status == GrpcStatus::Ok || !said.is_empty())
        .then(|| AnswerBody::new(framed(&reply(said))).late(body_delay));
    ended(status, pushback, message)
}

/// An answer with this status: in the trailers, or in the head if there is no message.
fn ended(
    status: GrpcStatus,
    pushback: Option<Duration>,
    message: Option<AnswerBody>,
) -> Response<AnswerBody> {
    let mut end = HeaderMap::new();
    end.insert(GrpcStatus::HEADER, u16::from(status.number()).into());
    if status != GrpcStatus::Ok {
        end.insert(MESSAGE, HeaderValue::from_static(reason(status)));
    }
    if let Some(pushback) = pushback {
        end.insert(PUSHBACK, HeaderValue::from(pushback.as_millis() as u64));
    }
    let mut response = Response::new(AnswerBody::default());
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    match message {
        Some(message) => *response.body_mut() = message.with_trailers(end),
        None => response.headers_mut().extend(end),
    }
    response
}

/// What B says about a failure.
fn reason(status: GrpcStatus) -> &'static str {
    match status {
        GrpcStatus::Unavailable | GrpcStatus::ResourceExhausted => "service B is busy",
        GrpcStatus::Unimplemented => "service B says hello and nothing else",
        _ => "service B has failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whatever_its_length() {
        for length in [0, 1, 25, 127, 128, 300, 70_000] {
            let said = "x".repeat(length);
            assert_eq!(text(&framed(&reply(&said))), Some(said));
        }
        assert_eq!(&*framed(&reply("hi")), b"\0\0\0\0\x04\x0a\x02hi");
    }

    #[test]
    fn what_is_no_message_with_one_text_is_none() {
        let odd: [&[u8]; 8] = [
            b"",
            b"\0\0\0\0",
            b"\0\0\0\0\x05\x0a\x02hi",
            b"\x01\0\0\0\x04\x0a\x02hi",
            b"\0\0\0\0\x04\x0a\x03hi",
            b"\0\0\0\0\x04\x12\x02hi",
            b"\0\0\0\0\x03\x0a\x01\xff",
            b"\0\0\0\0\x06\x0a\xff\xff\xff\xff\x0f",
        ];
        for frame in odd {
            assert_eq!(text(frame), None, "{frame:?}");
        }
    }
}

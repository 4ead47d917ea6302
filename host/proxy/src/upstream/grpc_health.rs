//! `grpc.health.v1.Health/Check`: what is asked, and what passes. Two messages of one field each
//! are not worth a library.

use bytes::{BufMut as _, Bytes, BytesMut};
use fusebox_head::FieldLookup;
use fusebox_resilience::{GrpcStatus, RequestBody, Response, ResponseBody};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};

/// Where it is asked for.
const PATH: &str = "/grpc.health.v1.Health/Check";
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// In front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The longest answer; one has 7 bytes.
const ANSWER: usize = 1024;

/// The first field of both messages: the name of a service, the status.
const SERVICE: u8 = 1 << 3 | LENGTH;
const STATUS: u64 = 1 << 3 | VARINT;

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u8 = 2;
const FIXED_32: u64 = 5;

/// The statuses of the second message, in the order of their numbers.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The head of a request.
pub(super) fn head() -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = Method::POST;
    head.uri = Uri::from_static(PATH);
    head.headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    head
}

/// The body of a request for this service; "" is the whole server.
pub(super) fn body(service: &str) -> RequestBody {
    let body = Full::new(message_for(service)).map_err(|never| match never {});
    RequestBody::new(Box::pin(body), 0)
}

fn message_for(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        put_varint(&mut message, service.len());
        message.put(service.as_bytes());
    }
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put(message);
    body.freeze()
}

fn put_varint(to: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        to.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.put_u8(number.to_le_bytes()[0]);
}

/// Whether this answer says that the service is there.
///
/// # Errors
/// It does not, for this reason.
pub(super) async fn passes(answer: Response) -> Result<(), String> {
    if answer.status != StatusCode::OK {
        return Err(format!("answered {}", answer.status.as_u16()));
    }
    said(&answer.headers)?;
    let message = message(answer.body).await?;
    match status(&message) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|number| STATUSES.get(number));
            Err(name.map_or_else(|| format!("answered {other}"), |name| format!("answered {name}")))
        }
        None => Err("answered no message of `grpc.health.v1.Health`".to_owned()),
    }
}

/// # Errors
/// The call has failed.
fn said(headers: &impl FieldLookup) -> Result<(), String> {
    match GrpcStatus::said(headers) {
        None | Some(GrpcStatus::Ok) => Ok(()),
        Some(GrpcStatus::Unimplemented) => {
            Err("answered unimplemented: it does not tell its health".to_owned())
        }
        Some(GrpcStatus::NotFound) => {
            Err("answered not-found: it does not know the service".to_owned())
        }
        Some(status) => Err(format!("answered {}", status.name())),
    }
}

/// The message of an answer.
///
/// # Errors
/// There is none.
async fn message(body: ResponseBody) -> Result<Bytes, String> {
    let body = Limited::new(body, ANSWER).collect().await.map_err(|error| error.to_string())?;
    body.trailers().map_or(Ok(()), said)?;
    let mut bytes = body.to_bytes();
    let prefix = bytes.split_to(PREFIX.min(bytes.len()));
    let is_whole = match prefix[..] {
        [0, a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize == bytes.len(),
        _ => false,
    };
    if is_whole { Ok(bytes) } else { Err("answered no message of gRPC".to_owned()) }
}

/// The status in a message. `None`: it is none.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key, key & 7) {
            (STATUS, _) => status = varint(&mut message)?,
            // What is not known is passed over.
            (_, VARINT) => drop(varint(&mut message)?),
            (_, FIXED_64) => drop(message.split_off(..8)?),
            (_, FIXED_32) => drop(message.split_off(..4)?),
            (_, kind) if kind == u64::from(LENGTH) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message.split_off(..length)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_request_names_a_service() {
        assert_eq!(message_for("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(message_for("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "x".repeat(300);
        let body = message_for(&long);
        assert_eq!(body[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
        assert_eq!(body[8..], *long.as_bytes());
    }

    #[test]
    fn a_status_is_found_among_what_is_not_known() {
        assert_eq!(status(b""), Some(0));
        assert_eq!(status(b"\x08\x01"), Some(1));
        assert_eq!(status(b"\x12\x03abc\x08\x01\x1d1234\x19\x31\x32345678\x20\x07"), Some(1));
        assert_eq!(status(b"\x08\x01\x08\x02"), Some(2), "the last one counts");
        assert_eq!(status(b"\x08\x80\x01"), Some(128));
        for wrong in [&b"\x08"[..], b"\x12\x04abc", b"\x0b", b"\x19\x01", b"\x08\xff", b"\xff"] {
            assert_eq!(status(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn only_serving_passes() {
        let answer = |status: u16, said: Option<&'static str>, body: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (GrpcStatus::HEADER, HeaderValue::from_static(said))));
            let status = StatusCode::from_u16(status).unwrap();
            Response::new(status, headers, ResponseBody::full(body))
        };
        let serving = b"\0\0\0\0\x02\x08\x01";
        assert_eq!(passes(answer(200, None, serving)).await, Ok(()));
        for (answer, why) in [
            (answer(503, None, serving), "answered 503"),
            (answer(200, None, b"\0\0\0\0\x02\x08\x02"), "answered NOT_SERVING"),
            (answer(200, None, b"\0\0\0\0\0"), "answered UNKNOWN"),
            (answer(200, None, b"\0\0\0\0\x02\x08\x09"), "answered 9"),
            (answer(200, None, b"\0\0\0\0\x01\x08"), "answered no message of `grpc.health"),
            (answer(200, None, b"\0\0\0\0\x03\x08\x01"), "answered no message of gRPC"),
            (answer(200, None, b"\x01\0\0\0\x02\x08\x01"), "answered no message of gRPC"),
            (answer(200, None, b""), "answered no message of gRPC"),
            (answer(200, None, &[0; 2000]), "length limit exceeded"),
            (answer(200, Some("5"), b""), "does not know the service"),
            (answer(200, Some("12"), b""), "does not tell its health"),
            (answer(200, Some("14"), b""), "answered unavailable"),
        ] {
            let told = passes(answer).await.unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}

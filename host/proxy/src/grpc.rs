//! What gRPC clients and servers say to each other in headers.

use fusebox_head::HeaderFields;
use fusebox_resilience::{GrpcStatus, ResponseBody, is_grpc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, request};
use http_body::Body;

/// What says how a call has ended.
const ENDS: [HeaderName; 3] =
    [GrpcStatus::HEADER, MESSAGE, HeaderName::from_static("grpc-status-details-bin")];
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message of this content type is one of gRPC or of one of its relatives, such as
/// gRPC-Web: a client of any of them finds its status in a head without a body.
pub(crate) fn speaks(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = content_type.as_bytes().get(..GRPC.len());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC))
}

/// Puts the status that an answer's head says behind its body, if it has one. Whoever makes a
/// response in place of a server's can give it headers only, and clients look for the status in
/// the head of an answer without messages alone.
pub(crate) fn end_by_trailers(headers: &mut HeaderMap, body: &mut ResponseBody) {
    if body.is_end_stream() || !headers.contains_key(GrpcStatus::HEADER) {
        return;
    }
    let taken = ENDS.into_iter().filter_map(|name| Some((name.clone(), headers.remove(name)?)));
    body.put_trailers(taken.collect());
}

/// Whether an answer with this head may end by trailers wherever its body breaks off: its client
/// calls by gRPC, and is promised no length. Over HTTP/1.1 trailers would have to be announced.
pub(crate) fn may_end_anywhere(
    asked: &request::Parts,
    status: StatusCode,
    to: &HeaderFields,
) -> bool {
    asked.version == Version::HTTP_2
        && is_grpc(&asked.headers)
        && status == StatusCode::OK
        && is_grpc(to)
        && !to.contains(&header::CONTENT_LENGTH)
}

/// A text as `grpc-message` has it: UTF-8, of which all that is not printable ASCII, and `%`, is
/// percent-encoded.
pub(crate) fn message(text: &str) -> HeaderValue {
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => message += &format!("%{byte:02X}"),
            _ => message.push(byte.into()),
        }
    }
    HeaderValue::try_from(message).expect("printable ASCII is a valid value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        for (text, expected) in [
            ("no route", "no route"),
            ("100 % ü", "100 %25 %C3%BC"),
            ("a\r\n~\u{7f}", "a%0D%0A~%7F"),
            ("", ""),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
    }

    #[test]
    fn relatives_speak_it_too() {
        let speaks = |kind| speaks(&HeaderValue::from_static(kind));
        assert!(["application/grpc", "Application/gRPC-Web+proto"].into_iter().all(speaks));
        assert!(!["application/json", "application/grp", ""].into_iter().any(speaks));
    }
}

//! Request heads, as they go to a server.

use http::{HeaderName, HeaderValue, Method, header};

use crate::body::BodyEncoder;
use crate::field::{put_field, put_length};
use crate::framing::RequestFraming;

/// Appends a request head, and returns what encodes the body. Of `headers`, those that frame the
/// body are left out in favour of `framing`.
///
/// `target` is the parts of the request target, in origin form; like names and values of headers it
/// can't contain what would end a line, by its type or by the caller's care.
pub fn encode_request<'a>(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[&str],
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    framing: RequestFraming,
) -> BodyEncoder {
    let mut encoder = BodyEncoder::new(framing.into(), false);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // Callers chain several sources. A loop of its own would ask at each header which one is due.
    headers.for_each(|(name, value)| {
        let frames = match *name {
            header::CONTENT_LENGTH => framing != RequestFraming::None || value != "0",
            header::TRANSFER_ENCODING => true,
            _ => false,
        };
        if !frames {
            if *name == header::TRAILER {
                encoder.announce(value.as_bytes());
            }
            put_field(out, name, value);
        }
    });
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => put_length(out, length),
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    encoder
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn head(fields: &[(&'static str, &'static str)], framing: RequestFraming) -> String {
        let mut out = Vec::new();
        encode_request(
            &mut out,
            &Method::POST,
            &["/base", "/x?y=1"],
            headers(fields).iter(),
            framing,
        );
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
        let wrong = [("host", "b"), ("content-length", "7")];
        assert_eq!(
            head(&wrong, RequestFraming::None),
            "POST /base/x?y=1 HTTP/1.1\r\nhost: b\r\n\r\n"
        );
    }
}

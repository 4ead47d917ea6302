//! The head of a response as HTTP/2 has it.

use bytes::Bytes;
use fusebox_resilience::Error;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body;

use crate::handler::ClientResponse;
use crate::headers::mark_passing;

/// Headers of a connection, which a response must not have (RFC 9113, section 8.2.2).
const OF_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes them away.
pub(super) fn strip(headers: &mut HeaderMap) {
    if headers.keys().any(|name| OF_CONNECTION.contains(name)) {
        for name in OF_CONNECTION {
            headers.remove(name);
        }
    }
}

/// The head, the body, and whether none of that is sent.
pub(super) fn head<B>(
    answer: ClientResponse<B>,
    is_head: bool,
    date: HeaderValue,
) -> (Response<()>, B, bool)
where
    B: Body<Data = Bytes, Error = Error>,
{
    let length = answer.length();
    let (status, mut headers, body) = answer.into_parts(date);
    strip(&mut headers);
    let has_none = never_has_a_body(status);
    // What nearly all responses say already is left as it is.
    if has_none || is_head || !length.is_some_and(|length| says(&headers, length)) {
        say_length(&mut headers, status, is_head, length);
    }
    mark_passing(&mut headers);
    let is_whole = has_none || is_head || body.is_end_stream();
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    (head, body, is_whole)
}

/// Whether it is said, once, that the body has this length.
fn says(headers: &HeaderMap, length: u64) -> bool {
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let (first, second) = (said.next(), said.next());
    let says = |text: &[u8]| {
        let is_plain = is_number(text) && (text.len() == 1 || text[0] != b'0');
        is_plain && str::from_utf8(text).ok().and_then(|text| text.parse().ok()) == Some(length)
    };
    second.is_none() && first.is_some_and(says)
}

/// Says how long the body is, or would be. `length` is that of the body, if it is known.
fn say_length(headers: &mut HeaderMap, status: StatusCode, is_head: bool, length: Option<u64>) {
    // A response that has no body may say how long it would be (RFC 9110, section 8.6).
    let said = headers.remove(header::CONTENT_LENGTH);
    let said = said.filter(|said| is_number(said.as_bytes()));
    let shown = if status == StatusCode::NOT_MODIFIED {
        said
    } else if never_has_a_body(status) {
        None
    } else if is_head {
        // The body of nothing may stand for one that is not sent.
        said.or(length.filter(|length| *length > 0).map(HeaderValue::from))
    } else {
        length.map(HeaderValue::from)
    };
    if let Some(length) = shown {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

fn never_has_a_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use fusebox_resilience::ResponseBody;

    use super::*;

    fn sent(status: u16, is_head: bool, said: Option<&str>, body: &'static str) -> String {
        let mut response = http::Response::new(ResponseBody::full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static("close"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        if let Some(said) = said {
            headers.insert("content-length", said.parse().unwrap());
        }
        let answer = ClientResponse::own(response, HeaderValue::from_static("id"));
        let (head, _, is_whole) = head(answer, is_head, HeaderValue::from_static("now"));
        let names: Vec<_> = head.headers().keys().map(|name| name.as_str()).collect();
        assert!(!names.contains(&"connection") && !names.contains(&"keep-alive"), "{names:?}");
        let values = head.headers();
        assert!(values["date"] == "now" && values["x-request-id"] == "id");
        let length = values.get("content-length").map(|value| value.to_str().unwrap());
        format!("{} {is_whole}", length.unwrap_or("none"))
    }

    #[test]
    fn a_length_is_shown_where_it_says_what_is_sent_or_would_be() {
        for (status, is_head, said, body, expected) in [
            (200, false, None, "four", "4 false"),
            (200, false, Some("9"), "four", "4 false"),
            (200, false, Some("4"), "four", "4 false"),
            (200, false, Some("04"), "four", "4 false"),
            (200, false, Some("0"), "", "0 true"),
            (204, false, Some("4"), "four", "none true"),
            (200, false, None, "", "0 true"),
            (200, true, Some("9"), "", "9 true"),
            (200, true, Some("+9"), "", "none true"),
            (200, true, None, "four", "4 true"),
            (200, true, None, "", "none true"),
            (204, false, Some("0"), "", "none true"),
            (304, false, Some("9"), "", "9 true"),
            (304, false, None, "", "none true"),
        ] {
            assert_eq!(sent(status, is_head, said, body), expected, "{status} {is_head} {said:?}");
        }
    }
}

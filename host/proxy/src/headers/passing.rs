//! Values that HPACK is not to remember (RFC 7541, section 6.2.3).
//!
//! What goes into its table throws something else out, and the encoder compares each new value with
//! all of the same name that are there: with a request id in each message, some fifty. With HTTP/2
//! on both sides that was a twentieth of what a request costs.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Marks the values that nearly each message has other ones of, so that they are not remembered.
pub fn mark_passing(headers: &mut HeaderMap) {
    for (name, value) in headers {
        mark_if_passing(name, value);
    }
}

/// The same of one field.
#[inline]
pub fn mark_if_passing(name: &HeaderName, value: &mut HeaderValue) {
    if is_passing(name.as_str()) {
        value.set_sensitive(true);
    }
}

/// What `h2` does not remember by itself, lengths and cookies for instance, is not among them.
fn is_passing(name: &str) -> bool {
    matches!(
        name,
        "b3" | "baggage"
            | "content-range"
            | "date"
            | "expires"
            | "grpc-timeout"
            | "idempotency-key"
            | "last-modified"
            | "range"
            | "server-timing"
            | "traceparent"
            | "tracestate"
            | "x-amzn-trace-id"
            | "x-b3-parentspanid"
            | "x-b3-spanid"
            | "x-b3-traceid"
            | "x-cloud-trace-context"
            | "x-correlation-id"
            | "x-envoy-expected-rq-timeout-ms"
            | "x-request-id"
            | "x-request-timeout-ms"
            | "x-response-time"
            | "x-runtime"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_message_has_another_of_is_marked_and_what_stays_is_not() {
        let passing = ["x-request-id", "date", "traceparent", "grpc-timeout"];
        let lasting = ["content-type", "server", "via", "user-agent", "x-forwarded-proto"];
        let of =
            |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("1"));
        let mut headers: HeaderMap = passing.iter().chain(&lasting).map(of).collect();
        headers.append("traceparent", HeaderValue::from_static("2"));
        mark_passing(&mut headers);
        for (name, value) in &headers {
            assert_eq!(value.is_sensitive(), passing.contains(&name.as_str()), "{name}");
        }
    }
}

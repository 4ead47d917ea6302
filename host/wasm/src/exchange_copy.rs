//! A copy of a question, with the exchange that it is about, for asking it again on another
//! thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fusebox_resilience::{
    Attempt, Call, Error, ErrorKind, Outcome, PastAttempt, Request, RequestBody, Response,
    ResponseBody, Worker,
};
use http::{HeaderMap, HeaderValue, StatusCode, Version, request};
use tokio::time::Instant;

use crate::question::{Asks, GuestQuestion};

/// All of an exchange that a guest can ask about. Of bodies it has what the guest could see.
#[derive(Debug)]
pub(crate) struct ExchangeCopy {
    head: request::Parts,
    route: Arc<str>,
    elapsed: Duration,
    remaining: Option<Duration>,
    attempts: u32,
    history: Vec<PastAttempt>,
    /// The attempt that the outcome came from.
    number: u32,
    /// Where that went.
    address: Option<SocketAddr>,
    is_http2: bool,
    asks: Asks<Result<CopiedResponse, ErrorKind>>,
    policy: Arc<str>,
}

#[derive(Debug)]
struct CopiedResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    is_whole: bool,
    trailers: Option<HeaderMap>,
}

impl ExchangeCopy {
    /// Of a body it takes what a guest that may look at `peek` bytes can tell apart.
    pub(crate) fn of(seen: &GuestQuestion<'_>, peek: usize) -> Self {
        let call = seen.call;
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = call.head().method.clone();
        head.uri = call.head().uri.clone();
        head.version = call.head().version;
        head.headers = call.headers().map(|(name, value)| (name.clone(), value.clone())).collect();
        let asks = seen.asks.map(|outcome| match outcome {
            Ok(response) => Ok(CopiedResponse {
                status: response.status,
                headers: response.headers.to_map(),
                body: response.body.peeked(peek, 0, peek).into(),
                is_whole: response.body.is_peeked_whole(peek),
                trailers: response.body.trailers().cloned(),
            }),
            Err(error) => Err(error.kind()),
        });
        Self {
            head,
            route: call.route().clone(),
            elapsed: call.elapsed(),
            remaining: seen.remaining(),
            attempts: call.attempts(),
            history: call.history(),
            number: seen.number(),
            address: seen.address(),
            is_http2: seen.version() == Some(Version::HTTP_2),
            asks,
            policy: seen.policy.clone(),
        }
    }

    /// Calls `ask` with the exchange, as it was.
    pub(crate) fn show<R>(self, ask: impl FnOnce(&GuestQuestion<'_>) -> R) -> R {
        let Self { head, route, elapsed, remaining, policy, asks, .. } = self;
        let Self { number, address, is_http2, .. } = self;
        let id = HeaderValue::from_static("check");
        let request = Request::new(id, route, head, SystemTime::UNIX_EPOCH).arrived(elapsed);
        let mut history = self.history;
        // The attempt of the outcome ends once more.
        history.retain(|past| past.provenance.attempt != number);
        let begun = if number == 0 { self.attempts } else { number - 1 };
        let call = Call::new(request, RequestBody::empty(), Worker::unobserved().into())
            .resumed(begun, history);
        let asks = asks.map(|outcome| {
            let outcome: Outcome = match outcome {
                Ok(CopiedResponse { status, headers, body, is_whole, trailers }) => {
                    let mut body = match is_whole {
                        true => ResponseBody::full(body),
                        false => ResponseBody::beginning(body),
                    };
                    if let Some(trailers) = trailers {
                        body.put_trailers(trailers);
                    }
                    Ok(Response::new(status, headers, body))
                }
                Err(kind) => Err(Error::new(kind)),
            };
            if number == 0 {
                return outcome;
            }
            let attempt = Attempt::detached(&call, address);
            attempt.goes_by_http2(is_http2);
            attempt.finish(outcome)
        });
        let deadline = remaining.and_then(|remaining| Instant::now().checked_add(remaining));
        ask(&GuestQuestion { call: &call, policy: &policy, asks: asks.as_ref(), deadline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::asked::AskedCase;
    use crate::cases::case::ComponentCase;

    /// What a guest may see of an exchange, but for times.
    fn visible(seen: &GuestQuestion<'_>, peek: usize) -> String {
        let outcome = match seen.outcome() {
            None => "none".to_owned(),
            Some(Ok(response)) => format!(
                "{} {:?} {:?} {} {:?}",
                response.status,
                response.headers,
                response.body.peeked(peek, 0, peek),
                response.body.is_peeked_whole(peek),
                response.body.trailers(),
            ),
            Some(Err(error)) => error.kind().name().to_owned(),
        };
        let call = seen.call;
        let headers: Vec<_> = call.headers().collect();
        let before: Vec<_> = call.history().iter().map(|past| past.outcome).collect();
        format!(
            "{} {} {:?} {:?} {headers:?} {} {} {} {} {before:?} {outcome}",
            call.head().method,
            call.head().uri,
            call.head().version,
            (seen.address(), seen.version()),
            call.route(),
            seen.policy,
            shown(seen),
            seen.number(),
        )
    }

    fn shown(seen: &GuestQuestion<'_>) -> String {
        match seen.asks {
            Asks::Delay { own, count, .. } => format!("delay {own:?} {count}"),
            Asks::Condition(..) | Asks::Response(_) | Asks::Key => seen.slot().name().to_owned(),
        }
    }

    #[test]
    fn a_copy_shows_what_the_exchange_did() {
        let request = r#"name = "c"
            route = "r"
            policy = "p"
            elapsed = "250ms"
            remaining = "10s"
            expect = { handled = true }
            endpoint = "10.0.0.7:3001"
            endpoint_protocol = "HTTP/2"
            request.method = "PUT"
            request.protocol = "HTTP/2"
            request.path = "/a?b=c"
            request.headers = { x = ["1", "2"], y = "é" }
            "#;
        let past = r#"history = [{ status = 503 }, { failure = "connect" }]"#;
        for (outcome, peeks) in [
            (
                r#"response = { status = 500, headers = { z = "3" }, body = "0123456789",
                    trailers = { grpc-status = "14" } }"#,
                true,
            ),
            (r#"failure = "timeout""#, false),
            ("failure = \"circuit-open\"\nattempt = 0", false),
            (r#"failure = "retries-exceeded""#, false),
            ("failure = \"timeout\"\nown = \"1s\"\ncount = 3\nasked = \"delay\"", false),
        ] {
            let past = if outcome.contains("attempt") { "" } else { past };
            let case = toml::from_str::<ComponentCase>(&format!("{request}{past}\n{outcome}"));
            let asked = AskedCase::of(&case.expect("a case")).expect("it can be asked");
            for peek in if peeks { vec![0, 4, 10, 100] } else { vec![0] } {
                let (copy, seen) = asked
                    .show(|_| true, |seen| (ExchangeCopy::of(seen, peek), visible(seen, peek)));
                let shown = thread_shown(copy, peek);
                assert_eq!(shown, seen, "{outcome} {peek}");
            }
        }
    }

    /// What is visible of it on another thread, some time later.
    fn thread_shown(copy: ExchangeCopy, peek: usize) -> String {
        let shown = std::thread::spawn(move || {
            copy.show(|seen| {
                assert!(seen.call.elapsed() >= Duration::from_millis(250));
                let remaining = seen.remaining().expect("a timeout around it");
                assert!(remaining <= Duration::from_secs(10));
                visible(seen, peek)
            })
        });
        shown.join().expect("no panic")
    }
}

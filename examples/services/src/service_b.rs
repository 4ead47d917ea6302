//! Service B: says hello, or fails as it is told to, by chance or by script.
//!
//! Every behaviour comes to a [`Step`] for each request. Chance has a seed and a script has none,
//! so either can be repeated.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use fastrand::Rng;
use fusebox_resilience::is_grpc;
use fusebox_resilience::testing::{DEFAULT_BODY, Step, Steps};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::answer::AnswerBody;
use crate::grpc;
use crate::server::Service;
use crate::stop::Stop;

/// An answer that a script names by its body, since its grammar can't contain JSON.
struct NamedAnswer {
    name: &'static str,
    kind: &'static str,
    /// What it says besides.
    fields: &'static [(&'static str, &'static str)],
    text: &'static str,
}

const SAMPLES: [NamedAnswer; 6] = [
    NamedAnswer {
        name: "graphql-errors",
        kind: JSON,
        fields: &[],
        text: r#"{"data": null, "errors": [{"message": "service B is busy"}]}"#,
    },
    NamedAnswer {
        name: "graphql-data",
        kind: JSON,
        fields: &[],
        text: r#"{"data": {"message": "hello from service B"}}"#,
    },
    NamedAnswer {
        name: "model-error",
        kind: EVENTS,
        fields: &[],
        text: "data: {\"error\": {\"message\": \"The server had an error\", \
               \"type\": \"server_error\"}}\n\n",
    },
    NamedAnswer {
        name: "model-words",
        kind: EVENTS,
        fields: &[],
        text: "data: {\"choices\": [{\"delta\": {\"content\": \"hello from \"}}]}\n\n\
               data: {\"choices\": [{\"delta\": {\"content\": \"service B\"}}]}\n\n\
               data: [DONE]\n\n",
    },
    NamedAnswer {
        name: "model-limit",
        kind: JSON,
        fields: &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1.5s")],
        text: r#"{"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}}"#,
    },
    NamedAnswer {
        name: "model-quota",
        kind: JSON,
        fields: &[],
        text: r#"{"error": {"message": "The quota is used up", "code": "insufficient_quota"}}"#,
    },
];

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// How B behaves, at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It answers at once.
    Ok,
    /// It answers after five seconds.
    Slow,
    /// Half of the answers are 503, with `Retry-After: 1`.
    Flaky,
    /// The same, and half of the good answers take a second.
    FlakyAndSlow,
}

/// What B does with each request.
#[derive(Debug)]
pub enum Behaviour {
    /// At random.
    Mode(Mode, Mutex<Rng>),
    /// Step by step in the order of arrival, then the last one for ever.
    Script {
        /// The steps.
        steps: Steps,
        /// What follows them.
        rest: Step,
        /// How many requests have come.
        arrived: AtomicUsize,
    },
}

impl Behaviour {
    /// Chance, from this seed.
    pub fn mode(mode: Mode, seed: u64) -> Self {
        Self::Mode(mode, Mutex::new(Rng::with_seed(seed)))
    }

    /// These steps, then `rest` for ever.
    pub fn script(steps: Steps, rest: Step) -> Self {
        Self::Script { steps, rest, arrived: AtomicUsize::new(0) }
    }

    fn next(&self) -> Step {
        match self {
            Self::Mode(mode, chance) => {
                let mut chance = chance.lock().unwrap_or_else(PoisonError::into_inner);
                match mode {
                    Mode::Ok => hello(Duration::ZERO),
                    Mode::Slow => hello(Duration::from_secs(5)),
                    Mode::Flaky | Mode::FlakyAndSlow if chance.bool() => busy(),
                    Mode::FlakyAndSlow if chance.bool() => hello(Duration::from_secs(1)),
                    Mode::Flaky | Mode::FlakyAndSlow => hello(Duration::ZERO),
                }
            }
            Self::Script { steps, rest, arrived } => {
                let index = arrived.fetch_add(1, Ordering::Relaxed);
                steps.0.get(index).unwrap_or(rest).clone()
            }
        }
    }
}

fn hello(delay: Duration) -> Step {
    Step::Respond {
        status: StatusCode::OK,
        delay,
        retry_after: None,
        retry_date: None,
        body: DEFAULT_BODY.to_owned(),
        body_delay: Duration::ZERO,
    }
}

fn busy() -> Step {
    Step::Respond {
        status: StatusCode::SERVICE_UNAVAILABLE,
        delay: Duration::ZERO,
        retry_after: Some(1),
        retry_date: None,
        body: String::new(),
        body_delay: Duration::ZERO,
    }
}

/// Says hello, or fails, on every path; by gRPC to whoever asks so.
#[derive(Debug)]
pub struct ServiceB {
    behaviour: Behaviour,
    /// `None`: it works on any number of requests at once.
    servers: Option<Semaphore>,
    stop: Stop,
}

impl ServiceB {
    /// A service with this behaviour. It closes hanging connections when it is time to stop.
    pub fn new(behaviour: Behaviour, stop: Stop) -> Self {
        Self { behaviour, servers: None, stop }
    }

    /// The same, working on so many requests at once; further ones wait in line.
    #[must_use]
    pub fn with_servers(self, servers: Option<usize>) -> Self {
        Self { servers: servers.map(Semaphore::new), ..self }
    }
}

impl Service for ServiceB {
    fn route(&self, _path: &str) -> &'static str {
        "/*"
    }

    async fn answer(&self, request: &request::Parts) -> Option<Response<AnswerBody>> {
        let is_grpc = is_grpc(&request.headers);
        if is_grpc && let Some(aside) = grpc::aside(request.uri.path()) {
            return Some(aside);
        }
        match self.behaviour.next() {
            Step::Close => None,
            Step::Hang => {
                self.stop.requested().await;
                None
            }
            Step::Respond { status, delay, retry_after, retry_date, body, body_delay } => {
                let _server = match &self.servers {
                    Some(servers) => servers.acquire().await.ok(),
                    None => None,
                };
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                if is_grpc {
                    let pushback = retry_after.or(retry_date).map(Duration::from_secs);
                    return Some(grpc::answer(status, pushback, &words(&body), body_delay));
                }
                let mut response = Response::new(AnswerBody::default());
                *response.status_mut() = status;
                if let Some(value) =
                    retry_after.map(HeaderValue::from).or_else(|| date(retry_date?))
                {
                    response.headers_mut().insert(header::RETRY_AFTER, value);
                }
                if !body.is_empty() && !matches!(status.as_u16(), 204 | 304) {
                    let body = content(body, response.headers_mut());
                    *response.body_mut() = AnswerBody::new(body).late(body_delay);
                }
                Some(response)
            }
        }
    }
}

/// A body or the sample that it names, and the headers that go with it.
fn content(body: String, headers: &mut HeaderMap) -> Bytes {
    let sample = SAMPLES.iter().find(|sample| sample.name == body);
    let kind = match sample {
        Some(sample) => sample.kind,
        None if body.starts_with('{') => JSON,
        None => "text/plain; charset=utf-8",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for &(name, value) in sample.into_iter().flat_map(|sample| sample.fields) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    sample.map_or_else(|| Bytes::from(body), |sample| Bytes::from_static(sample.text.as_bytes()))
}

/// What a body says: its message, or all of it.
fn words(body: &str) -> String {
    #[derive(Deserialize)]
    struct Hello {
        message: String,
    }
    serde_json::from_str(body).map_or_else(|_| body.to_owned(), |Hello { message }| message)
}

/// The HTTP date so many seconds from now; `None` beyond the calendar.
fn date(seconds: u64) -> Option<HeaderValue> {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
    let at = Timestamp::now().checked_add(seconds).ok()?;
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use tokio::time::Instant;

    async fn head_after(service: &ServiceB) -> (StatusCode, Duration) {
        let (head, ()) = Request::new(()).into_parts();
        let asked = Instant::now();
        let response = service.answer(&head).await.expect("an answer");
        (response.status(), asked.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_b_takes_five_seconds() {
        let (_go, stop) = Stop::new();
        let service = ServiceB::new(Behaviour::mode(Mode::Slow, 1), stop);
        assert_eq!(head_after(&service).await, (StatusCode::OK, Duration::from_secs(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flaky_and_slow_b_fails_half_the_time_and_is_slow_half_of_the_rest() {
        let (_go, stop) = Stop::new();
        let service = ServiceB::new(Behaviour::mode(Mode::FlakyAndSlow, 1), stop);
        let (mut failed, mut slow, mut good) = (0, 0, 0);
        for _ in 0..1000 {
            match head_after(&service).await {
                (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO) => failed += 1,
                (StatusCode::OK, Duration::ZERO) => good += 1,
                (StatusCode::OK, delay) if delay == Duration::from_secs(1) => slow += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(
            (400..600).contains(&failed)
                && (175..325).contains(&slow)
                && (175..325).contains(&good)
        );
    }

    #[test]
    fn a_date_beyond_the_calendar_is_left_out() {
        assert!(date(1).is_some());
        assert_eq!(date(u64::MAX), None);
        assert_eq!(date(1 << 60), None);
    }
}

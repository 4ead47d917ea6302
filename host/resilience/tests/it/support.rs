//! Policies from TOML, surroundings with fake components, upstreams and bodies made by hand, and
//! the [`Rig`] that runs a pipeline and tells times in milliseconds.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::config::Problem;
use fusebox_resilience::testing::{self, Recorder, Script};
use fusebox_resilience::{
    Attempt, BodyStream, Budget, BudgetConfig, Call, CircuitBreaker, CircuitBreakerConfig, Error,
    ErrorKind, EventKind, Exchange, FallbackConfig, Outcome, Parts, Peek, Pipeline, Policy,
    PolicyConfig, Predicate, RequestBody, Responder, Response, ResponseBody, RetryConfig, Scope,
    TimeoutConfig, Upstream, Verdict,
};
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// ===== policies =====

#[track_caller]
fn parse<T: DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn sound<T>(built: Result<T, Vec<Problem>>) -> T {
    built.unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[track_caller]
pub(crate) fn retry(text: &str) -> Arc<dyn Policy> {
    retry_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn retry_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<RetryConfig>(text).build("retry".into(), parts)))
}

#[track_caller]
pub(crate) fn breaker(text: &str) -> Arc<CircuitBreaker> {
    breaker_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn breaker_among(text: &str, parts: &Surroundings) -> Arc<CircuitBreaker> {
    Arc::new(sound(parse::<CircuitBreakerConfig>(text).build("breaker".into(), parts)))
}

#[track_caller]
pub(crate) fn timeout(limit: u64) -> Arc<dyn Policy> {
    Arc::new(sound(
        parse::<TimeoutConfig>(&format!("limit = \"{limit}ms\""))
            .build("timeout".into(), &Surroundings::default()),
    ))
}

#[track_caller]
pub(crate) fn fallback(text: &str) -> Arc<dyn Policy> {
    fallback_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn fallback_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<FallbackConfig>(text).build("fallback".into(), parts)))
}

/// What is wrong with a piece of configuration, as `path: message`; what is wrong with its shape,
/// as TOML says it.
pub(crate) fn problems<C: DeserializeOwned, T>(
    text: &str,
    build: impl FnOnce(C) -> Result<T, Vec<Problem>>,
) -> Vec<String> {
    match toml::from_str::<C>(text).map(build) {
        Err(error) => vec![error.message().to_owned()],
        Ok(Err(problems)) => problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect(),
        Ok(Ok(_)) => Vec::new(),
    }
}

// ===== surroundings =====

/// What policies find around them; chance is seeded.
#[derive(Debug)]
pub(crate) struct Surroundings {
    predicates: BTreeMap<&'static str, Arc<Fake>>,
    responders: BTreeMap<&'static str, Arc<Answer>>,
    budgets: BTreeMap<&'static str, Arc<Budget>>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { predicates: BTreeMap::new(), responders: BTreeMap::new(), budgets: BTreeMap::new() }
    }
}

impl Surroundings {
    pub(crate) fn predicate(mut self, name: &'static str, predicate: &Arc<Fake>) -> Self {
        self.predicates.insert(name, predicate.clone());
        self
    }

    pub(crate) fn responder(mut self, name: &'static str, responder: Answer) -> Self {
        self.responders.insert(name, Arc::new(responder));
        self
    }

    pub(crate) fn budget(mut self, name: &'static str, budget: &Arc<Budget>) -> Self {
        self.budgets.insert(name, budget.clone());
        self
    }
}

impl Parts for Surroundings {
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String> {
        let found =
            self.predicates.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String> {
        let found =
            self.responders.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn budget(&self, name: &str) -> Result<Arc<Budget>, String> {
        self.budgets.get(name).cloned().ok_or_else(|| format!("no budget `{name}`"))
    }
}

pub(crate) fn budget(max_rate: f64, min_concurrency: usize) -> Arc<Budget> {
    Arc::new(sound(BudgetConfig { max_rate, min_concurrency }.build()))
}

/// A component as a condition: answers by a function, and keeps what it was shown.
pub(crate) struct Fake {
    answer: fn(&Exchange<'_>) -> bool,
    peek: Option<Peek>,
    seen: Mutex<Vec<String>>,
}

impl Fake {
    pub(crate) fn new(answer: fn(&Exchange<'_>) -> bool) -> Arc<Self> {
        Arc::new(Self { answer, peek: None, seen: Mutex::default() })
    }

    pub(crate) fn peeking(
        bytes: usize,
        timeout: u64,
        answer: fn(&Exchange<'_>) -> bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer,
            peek: Some(Peek { bytes, timeout: ms(timeout) }),
            seen: Mutex::default(),
        })
    }

    /// One line for each question, such as `503 "busy" of attempt 1, 60 ms left`; `…` stands for
    /// what was not shown.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Predicate for Fake {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        let line = match seen.outcome {
            Ok(response) => {
                let bytes = self.peek.map_or(0, |peek| peek.bytes);
                let peeked = response.body.peeked(bytes, 0, bytes);
                let whole = if response.body.is_peeked_whole(bytes) { "" } else { "…" };
                format!(
                    "{} {:?}{whole}",
                    response.status.as_u16(),
                    String::from_utf8_lossy(&peeked)
                )
            }
            Err(error) => error.kind().failure().name().to_owned(),
        };
        let left = seen
            .remaining()
            .map_or(String::new(), |left| format!(", {} ms left", left.as_millis()));
        let line = format!("{line} of attempt {}{left}", seen.number());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Verdict::native((self.answer)(seen))
    }

    fn peek(&self) -> Option<Peek> {
        self.peek
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("peek", &self.peek).finish_non_exhaustive()
    }
}

/// A component as a fallback.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) peek: Option<Peek>,
    pub(crate) respond: fn(&Exchange<'_>) -> Option<Response>,
}

impl Responder for Answer {
    fn respond<'a>(&'a self, seen: &'a Exchange<'a>) -> fusebox_resilience::Answer<'a> {
        fusebox_resilience::Answer::Now((self.respond)(seen))
    }

    fn peek(&self) -> Option<Peek> {
        self.peek
    }
}

// ===== running =====

/// When it ended, and with which status or failure.
pub(crate) type Ended = (u64, Result<u16, ErrorKind>);

/// A pipeline around an upstream; its clock starts at 0 when it is made.
pub(crate) struct Rig<U = Script> {
    pub(crate) upstream: U,
    pub(crate) pipeline: Pipeline,
    pub(crate) recorder: Recorder,
    start: Instant,
    calls: Cell<usize>,
}

impl Rig {
    #[track_caller]
    pub(crate) fn new<const N: usize>(script: &str, policies: [Arc<dyn Policy>; N]) -> Self {
        Self::around(Script::new(script), policies)
    }

    /// When each attempt arrived.
    pub(crate) fn attempts(&self) -> Vec<u64> {
        self.upstream.arrivals().iter().map(|arrival| arrival.at.as_millis() as u64).collect()
    }
}

impl<U: Upstream> Rig<U> {
    pub(crate) fn around<const N: usize>(upstream: U, policies: [Arc<dyn Policy>; N]) -> Self {
        Self {
            upstream,
            pipeline: Pipeline::new(policies),
            recorder: Recorder::default(),
            start: Instant::now(),
            calls: Cell::new(0),
        }
    }

    /// Milliseconds since the rig was made.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Lets time pass until `at`.
    pub(crate) async fn until(&self, at: u64) {
        sleep_until(self.start + ms(at)).await;
    }

    pub(crate) fn call(&self) -> Call {
        self.call_of(http::Request::get("http://service-b/"), RequestBody::empty())
    }

    pub(crate) fn call_of(&self, request: http::request::Builder, body: RequestBody) -> Call {
        let number = self.calls.replace(self.calls.get() + 1);
        testing::call_with(&number.to_string(), request, body, self.recorder.observers())
    }

    pub(crate) async fn outcome(&self, call: &Call) -> Outcome {
        self.pipeline.execute(call, &Scope::new(&self.upstream)).await
    }

    /// To the end of the response head.
    pub(crate) async fn send(&self, call: &Call) -> Ended {
        let outcome = self.outcome(call).await;
        (self.now(), outcome.map(|response| response.status.as_u16()).map_err(|error| error.kind()))
    }

    pub(crate) async fn get(&self) -> Ended {
        self.send(&self.call()).await
    }

    /// A GET whose end does not matter.
    pub(crate) async fn run(&self) {
        drop(self.outcome(&self.call()).await);
    }

    /// A GET at this time.
    pub(crate) async fn get_at(&self, at: u64) -> Ended {
        self.until(at).await;
        self.get().await
    }

    pub(crate) async fn request(&self, method: &str, body: RequestBody) -> Ended {
        self.send(
            &self.call_of(http::Request::builder().method(method).uri("http://service-b/"), body),
        )
        .await
    }

    /// What happened, with times.
    pub(crate) fn events(&self) -> Vec<(u64, EventKind)> {
        let recorded = self.recorder.recorded().into_iter();
        recorded
            .map(|recorded| ((recorded.at - self.start).as_millis() as u64, recorded.kind))
            .collect()
    }
}

// ===== upstreams by hand =====

/// An upstream that answers each attempt, by its number, after 1 ms, once it has read the request
/// body.
pub(crate) struct Answers<F>(pub(crate) F);

impl<F: Fn(u32) -> Outcome> Upstream for Answers<F> {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            if let Err(error) = testing::read(call.body().for_attempt()).await {
                return attempt.finish(Err(error));
            }
            sleep(ms(1)).await;
            let outcome = (self.0)(attempt.number());
            attempt.finish(outcome)
        })
    }
}

pub(crate) fn response(
    status: u16,
    headers: &[(&'static str, &str)],
    body: ResponseBody,
) -> Response {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).expect("a valid value"))
        })
        .collect();
    Response::new(StatusCode::from_u16(status).expect("a valid status"), headers, body)
}

// ===== bodies by hand =====

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    Data(&'static str),
    Trailer(&'static str, &'static str),
    /// Nothing for so many milliseconds.
    Wait(u64),
    Break(ErrorKind),
    Hang,
}

/// A body of these pieces, and the number of bytes that have been taken from it so far.
pub(crate) fn pieces<const N: usize>(pieces: [Piece; N]) -> (BodyStream, Rc<Cell<usize>>) {
    let taken = Rc::new(Cell::new(0));
    (Box::pin(Pieces { pieces: pieces.into(), wait: None, taken: taken.clone() }), taken)
}

/// The same as a request body of which `limit` bytes are kept.
pub(crate) fn request_body<const N: usize>(limit: usize, of: [Piece; N]) -> RequestBody {
    RequestBody::new(pieces(of).0, limit)
}

/// The same as a response body.
pub(crate) fn response_body<const N: usize>(of: [Piece; N]) -> ResponseBody {
    ResponseBody::stream(pieces(of).0)
}

struct Pieces {
    pieces: VecDeque<Piece>,
    wait: Option<Pin<Box<Sleep>>>,
    taken: Rc<Cell<usize>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            let Some(piece) = self.pieces.pop_front() else { return Poll::Ready(None) };
            return Poll::Ready(Some(match piece {
                Piece::Data(data) => {
                    self.taken.set(self.taken.get() + data.len());
                    Ok(Frame::data(Bytes::from_static(data.as_bytes())))
                }
                Piece::Trailer(name, value) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert(name, HeaderValue::from_static(value));
                    Ok(Frame::trailers(trailers))
                }
                Piece::Wait(millis) => {
                    self.wait = Some(Box::pin(sleep(ms(millis))));
                    continue;
                }
                Piece::Break(kind) => Err(kind.into()),
                Piece::Hang => {
                    self.pieces.push_front(Piece::Hang);
                    return Poll::Pending;
                }
            }));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

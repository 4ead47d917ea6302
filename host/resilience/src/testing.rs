//! The test doubles: a [`Script`] of what an upstream does, and a [`Recorder`] of events. (Feature
//! `testing`.)
//!
//! A script is a list of steps, `503:ra=1,503*2,200:delay=40,close`: each attempt plays the next
//! one, and after the last of them [`rest`](Script::rest) is played for ever. The demonstration
//! services play the same scripts over sockets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::attempt::Attempt;
use crate::background::Background;
use crate::body::{RequestBody, ResponseBody};
use crate::budget::Budget;
use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::event::{ComponentId, Event, EventKind, Observer, Observers};
use crate::grpc::is_grpc;
use crate::native::Native;
use crate::outcome::{Outcome, Response};
use crate::parts::Parts;
use crate::predicate::{Exchange, Predicate, Responder};
use crate::priority::{LEVEL, PriorityLevel};
use crate::random::Random;
use crate::request::Request;
use crate::scope::{Scope, Upstream};
use crate::slot::Slot;
use crate::worker::Worker;

/// The body of a 2xx that names none.
pub const DEFAULT_BODY: &str = r#"{"message": "hello from service B"}"#;

/// What an upstream does with one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answers.
    Respond {
        /// With this status,
        status: StatusCode,
        /// after this time,
        delay: Duration,
        /// with `Retry-After` in seconds,
        retry_after: Option<u64>,
        /// or as the date so many seconds from now,
        retry_date: Option<u64>,
        /// and this body,
        body: String,
        /// which follows the head after this time.
        body_delay: Duration,
    },
    /// Closes the connection.
    Close,
    /// Never answers.
    Hang,
}

/// Steps, played in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub Vec<Step>);

/// A script that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected steps such as `503:ra=1,200:delay=40*2,close`, found `{}`", self.0)
    }
}

impl std::error::Error for ScriptError {}

impl FromStr for Steps {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        for item in text.split(',').filter(|item| !item.trim().is_empty()) {
            let wrong = || ScriptError(item.to_owned());
            let (step, times) = match item.rsplit_once('*') {
                Some((step, times)) => (step, times.parse().map_err(|_| wrong())?),
                None => (item, 1),
            };
            let step: Step = step.trim().parse().map_err(|_| wrong())?;
            steps.extend(std::iter::repeat_n(step, times));
        }
        Ok(Self(steps))
    }
}

impl FromStr for Step {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let wrong = || ScriptError(text.to_owned());
        let mut parts = text.split(':');
        let status = match parts.next() {
            Some("close") => return Ok(Self::Close),
            Some("hang") => return Ok(Self::Hang),
            Some(status) => status.parse::<StatusCode>().map_err(|_| wrong())?,
            None => return Err(wrong()),
        };
        let (mut delay, mut body_delay) = (Duration::ZERO, Duration::ZERO);
        let (mut retry_after, mut retry_date, mut body) = (None, None, None);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse::<u64>().map_err(|_| wrong());
            match key {
                "delay" => delay = Duration::from_millis(number()?),
                "bodydelay" => body_delay = Duration::from_millis(number()?),
                "ra" => retry_after = Some(number()?),
                "radate" => retry_date = Some(number()?),
                "body" => body = Some(value.to_owned()),
                _ => return Err(wrong()),
            }
        }
        let body = body.unwrap_or_else(|| {
            if status.is_success() { DEFAULT_BODY.to_owned() } else { String::new() }
        });
        Ok(Self::Respond { status, delay, retry_after, retry_date, body, body_delay })
    }
}

/// How an attempt on a [`Script`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Not yet.
    Pending,
    /// It got a response.
    Responded,
    /// It was dropped before that.
    Canceled,
    /// Its connection was closed.
    Closed,
}

/// An attempt that arrived at a [`Script`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The call that it belongs to.
    pub call: String,
    /// When it came, after the script was made.
    pub at: Duration,
    /// When it ended.
    pub ended: Option<Duration>,
    /// How.
    pub outcome: Arrived,
    /// The request body that it brought.
    pub body: Bytes,
}

/// An upstream that plays steps, each taking [`Self::ATTEMPT`] on top of its delay.
#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
    rest: Step,
    start: Instant,
    arrivals: RefCell<Vec<Arrival>>,
    bodies: Rc<()>,
    endpoint: Arc<str>,
}

impl Script {
    /// What an attempt takes at least.
    pub const ATTEMPT: Duration = Duration::from_millis(1);

    /// Plays `steps`, then a 200 for ever.
    ///
    /// # Panics
    /// `steps` can't be read.
    #[track_caller]
    pub fn new(steps: &str) -> Self {
        Self {
            steps: steps.parse::<Steps>().expect("a readable script").0,
            rest: "200".parse().expect("a readable step"),
            start: Instant::now(),
            arrivals: RefCell::default(),
            bodies: Rc::default(),
            endpoint: "service-b".into(),
        }
    }

    /// The same, playing `rest` for ever after the last step.
    ///
    /// # Panics
    /// `rest` can't be read.
    #[must_use]
    #[track_caller]
    pub fn rest(mut self, rest: &str) -> Self {
        self.rest = rest.parse().expect("a readable step");
        self
    }

    /// The attempts so far, in the order of their arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.borrow().clone()
    }

    /// Attempts under way, and response bodies that have neither ended nor been dropped.
    pub fn alive(&self) -> usize {
        let pending = self
            .arrivals
            .borrow()
            .iter()
            .filter(|arrival| arrival.outcome == Arrived::Pending)
            .count();
        pending + Rc::strong_count(&self.bodies) - 1
    }

    async fn play(&self, call: &Call, step: Step) -> (Arrived, Outcome) {
        match step {
            Step::Hang => pending().await,
            Step::Close => {
                sleep(Self::ATTEMPT).await;
                (Arrived::Closed, Err(ErrorKind::ConnectionTerminated.into()))
            }
            Step::Respond { status, delay, retry_after, retry_date, body, body_delay } => {
                sleep(Self::ATTEMPT + delay).await;
                let mut headers = HeaderMap::new();
                let retry_date = retry_date.map(|seconds| {
                    HeaderValue::try_from(httpdate::fmt_http_date(
                        call.wall_clock() + Duration::from_secs(seconds),
                    ))
                    .expect("a date is a valid value")
                });
                if let Some(value) = retry_after.map(HeaderValue::from).or(retry_date) {
                    headers.insert(header::RETRY_AFTER, value);
                }
                let body = if body_delay.is_zero() {
                    ResponseBody::full(body)
                } else {
                    ResponseBody::stream(Box::pin(LateBody {
                        after: Box::pin(sleep(body_delay)),
                        data: Some(body.into()),
                        _alive: self.bodies.clone(),
                    }))
                };
                (Arrived::Responded, Ok(Response::new(status, headers, body)))
            }
        }
    }
}

impl Upstream for Script {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &self.endpoint);
            let index = self.arrivals.borrow().len();
            self.arrivals.borrow_mut().push(Arrival {
                call: call.id().to_owned(),
                at: self.start.elapsed(),
                ended: None,
                outcome: Arrived::Pending,
                body: Bytes::new(),
            });
            let arrival = ArrivalGuard { script: self, index };
            let body = read(call.body().for_attempt()).await;
            let step = self.steps.get(index).unwrap_or(&self.rest).clone();
            let (arrived, outcome) = match body {
                Ok(body) => {
                    self.arrivals.borrow_mut()[index].body = body;
                    self.play(call, step).await
                }
                Err(error) => (Arrived::Closed, Err(error)),
            };
            arrival.end(arrived);
            attempt.finish(outcome)
        })
    }
}

struct ArrivalGuard<'a> {
    script: &'a Script,
    index: usize,
}

impl ArrivalGuard<'_> {
    fn end(&self, outcome: Arrived) {
        let mut arrivals = self.script.arrivals.borrow_mut();
        arrivals[self.index].outcome = outcome;
        arrivals[self.index].ended = Some(self.script.start.elapsed());
    }
}

impl Drop for ArrivalGuard<'_> {
    fn drop(&mut self) {
        if self.script.arrivals.borrow()[self.index].outcome == Arrived::Pending {
            self.end(Arrived::Canceled);
        }
    }
}

struct LateBody {
    after: Pin<Box<Sleep>>,
    data: Option<Bytes>,
    _alive: Rc<()>,
}

impl Body for LateBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.data.is_some() {
            std::task::ready!(self.after.as_mut().poll(cx));
        }
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }
}

/// A body that came to nothing but what is read from it.
///
/// # Errors
/// It broke off.
pub async fn read<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, B::Error> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.into())
}

/// Keeps every event but details, and those of attempts, which a script knows better.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Recorded>>>);

/// An event that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// When.
    pub at: Instant,
    /// The call that it concerned.
    pub call: Option<String>,
    /// The policy that said so.
    pub policy: Option<String>,
    /// The version of a component that led to it.
    pub decided_by: Option<ComponentId>,
    /// What.
    pub kind: EventKind,
}

impl Recorder {
    /// An `Observers` that is this alone.
    pub fn observers(&self) -> Observers {
        Observers::new([Arc::new(self.clone()) as Arc<dyn Observer>])
    }

    /// What has been seen, with everything about it.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has been seen.
    pub fn kinds(&self) -> Vec<EventKind> {
        self.recorded().into_iter().map(|recorded| recorded.kind).collect()
    }
}

impl Observer for Recorder {
    fn wants_details(&self) -> bool {
        false
    }

    fn observe(&self, event: &Event<'_>) {
        if matches!(event.kind, EventKind::Attempt(_)) {
            return;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded {
            at: Instant::now(),
            call: event.request.map(|request| request.id().to_owned()),
            policy: event.policy.map(|policy| policy.to_string()),
            decided_by: event.decided_by.cloned(),
            kind: event.kind.clone(),
        });
    }
}

/// Runs what outlives its call as tasks of the `LocalSet` around, as many as there are places.
#[derive(Clone, Debug, Default)]
pub struct LocalTasks(Rc<Cell<usize>>);

impl LocalTasks {
    /// So many places, which are not given back.
    pub fn with_places(places: usize) -> Self {
        Self(Rc::new(Cell::new(places)))
    }
}

impl Background for LocalTasks {
    fn has_place(&self) -> bool {
        self.0.get() > 0
    }

    fn run(&self, work: LocalBoxFuture<'static, ()>) {
        if self.has_place() {
            self.0.set(self.0.get() - 1);
            tokio::task::spawn_local(work);
        }
    }
}

/// A GET call on the route `test`, as of the Unix epoch.
pub fn call(id: &str, observers: Observers) -> Call {
    call_with(id, http::Request::get("http://service-b/"), RequestBody::empty(), observers)
}

/// The same with another request.
///
/// # Panics
/// The request is not valid.
pub fn call_with(
    id: &str,
    request: http::request::Builder,
    body: RequestBody,
    observers: Observers,
) -> Call {
    let worker = Worker::new(observers, Random::with_seed(1));
    let worker = worker.with_background(LocalTasks::with_places(usize::MAX));
    call_on(id, request, body, worker.into())
}

/// The same on a worker that runs other calls too, with the level that the request says, by gRPC if
/// its content type says that.
///
/// # Panics
/// The request is not valid.
pub fn call_on(
    id: &str,
    request: http::request::Builder,
    body: RequestBody,
    worker: Rc<Worker>,
) -> Call {
    let (head, ()) = request.body(()).expect("a valid request").into_parts();
    let id = http::HeaderValue::from_str(id).expect("a valid id");
    let level =
        head.headers.get(LEVEL).and_then(|level| PriorityLevel::parse(level.to_str().ok()?));
    let mut request = Request::new(id, "test".into(), head, SystemTime::UNIX_EPOCH);
    request.set_level(level);
    if is_grpc(&request.head().headers) {
        request.set_grpc(Duration::from_secs(3600));
    }
    Call::new(request, body, worker)
}

/// What a policy with the name of the call's route would show of `outcome`; the slot's default
/// condition is that of a retry.
pub fn exchange<'a>(
    call: &'a Call,
    outcome: &'a Outcome,
    slot: Slot,
    deadline: Option<Instant>,
) -> Exchange<'a> {
    Exchange { call, outcome, policy: call.route(), slot, deadline, default: &Native::FAILURES }
}

/// Surroundings that have no component and no budget.
#[derive(Debug)]
pub struct NoParts;

impl Parts for NoParts {
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String> {
        Err(format!("no component `{component}`"))
    }

    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String> {
        Err(format!("no component `{component}`"))
    }

    fn budget(&self, name: &str) -> Result<Arc<Budget>, String> {
        Err(format!("no budget `{name}`"))
    }
}

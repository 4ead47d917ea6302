//! An upstream that answers by a function, and clients behind a cache.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::testing::{self, LocalTasks, Recorder, read};
use fusebox_resilience::{
    Attempt, Call, Outcome, Pipeline, Policy, Preconditions, Random, RequestBody, Response,
    ResponseBody, Scope, Upstream, Worker,
};
use futures_util::future::LocalBoxFuture;
use http::request::Builder;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{ms, response};

/// What the upstream was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its number, from 1.
    pub(super) number: usize,
    /// When, in milliseconds.
    pub(super) at: u64,
    /// Method and target, and the preconditions.
    pub(super) said: String,
}

type Answering = Box<dyn Fn(&Asked, &Call) -> Outcome>;

/// An upstream that answers after a time by a function.
#[derive(Clone)]
pub(super) struct Origin(Rc<OriginState>);

struct OriginState {
    answer: Answering,
    takes: Cell<u64>,
    start: Instant,
    asked: RefCell<Vec<Asked>>,
    under_way: Rc<()>,
}

impl Origin {
    pub(super) fn new(answer: impl Fn(&Asked, &Call) -> Outcome + 'static) -> Self {
        Self(Rc::new(OriginState {
            answer: Box::new(answer),
            takes: Cell::new(10),
            start: Instant::now(),
            asked: RefCell::default(),
            under_way: Rc::default(),
        }))
    }

    /// What it was asked, each as `method target [condition: value]`.
    pub(super) fn said(&self) -> Vec<String> {
        self.0.asked.borrow().iter().map(|asked| asked.said.clone()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.0.asked.borrow().len()
    }

    /// Attempts under way.
    pub(super) fn under_way(&self) -> usize {
        Rc::strong_count(&self.0.under_way) - 1
    }

    /// How long each answer takes from now on.
    pub(super) fn takes(&self, millis: u64) {
        self.0.takes.set(millis);
    }
}

impl Upstream for Origin {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let _under_way = self.0.under_way.clone();
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut said = format!("{} {}", call.head().method, call.head().uri.path());
            let own = call.headers().filter(|(name, _)| Preconditions::replace(name));
            let fields: Vec<_> = match scope.preconditions() {
                Some(preconditions) => preconditions.fields().collect(),
                None => own.collect(),
            };
            for (name, value) in fields {
                said += &format!(" {name}: {}", value.to_str().unwrap());
            }
            let at = self.0.start.elapsed().as_millis() as u64;
            let number = self.count() + 1;
            let asked = Asked { number, at, said };
            self.0.asked.borrow_mut().push(asked.clone());
            sleep(ms(self.0.takes.get())).await;
            attempt.finish((self.0.answer)(&asked, call))
        })
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(self.clone()))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.0.asked).finish()
    }
}

/// Clients of a pipeline around an origin.
pub(super) struct Clients {
    pub(super) origin: Origin,
    pub(super) pipeline: Pipeline,
    pub(super) recorder: Recorder,
    worker: Rc<Worker>,
    start: Instant,
}

impl Clients {
    pub(super) fn of(origin: Origin, policies: impl Into<Arc<[Arc<dyn Policy>]>>) -> Self {
        Self::with_places(origin, policies, usize::MAX)
    }

    /// With so many places for what outlives its call.
    pub(super) fn with_places(
        origin: Origin,
        policies: impl Into<Arc<[Arc<dyn Policy>]>>,
        places: usize,
    ) -> Self {
        let recorder = Recorder::default();
        let worker = Worker::new(recorder.observers(), Random::with_seed(1))
            .with_background(LocalTasks::with_places(places));
        Self {
            origin,
            pipeline: Pipeline::new(policies),
            recorder,
            worker: worker.into(),
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    pub(super) async fn until(&self, at: u64) {
        sleep_until(self.start + ms(at)).await;
    }

    pub(super) async fn outcome(&self, request: Builder) -> (Call, Outcome) {
        let request = request.header("host", "b.example");
        let call = testing::call_on("1", request, RequestBody::empty(), self.worker.clone());
        let outcome = self.pipeline.execute(&call, &Scope::new(&self.origin)).await;
        (call, outcome)
    }

    /// The answer to a request: `status body [cache-status] [age]`, or the failure; a body that
    /// breaks off ends with `…`.
    pub(super) async fn send(&self, request: Builder) -> String {
        let (_call, outcome) = self.outcome(request).await;
        shown(outcome).await
    }

    /// The answer to a GET with these fields, each `name: value`.
    pub(super) async fn get(&self, path: &str, fields: &[&str]) -> String {
        self.send(get(path, fields)).await
    }
}

pub(super) fn get(path: &str, fields: &[&str]) -> Builder {
    let request = http::Request::get(path);
    fields.iter().fold(request, |request, field| {
        let (name, value) = field.split_once(": ").expect("a field");
        request.header(name, value)
    })
}

pub(super) async fn shown(outcome: Outcome) -> String {
    let response = match outcome {
        Ok(response) => response,
        Err(error) => return error.kind().failure().name().to_owned(),
    };
    let headers = response.headers.to_map();
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let cache = header("cache-status").unwrap_or("-").replace("fusebox; ", "");
    let age = header("age").map(|age| format!(", age {age}")).unwrap_or_default();
    let status = response.status.as_u16();
    let body = match read(response.body).await {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(error) => format!("…{}", error.kind().failure().name()),
    };
    format!("{status} {body} [{cache}{age}]")
}

/// A response with these fields, each `name: value`, and this body.
pub(super) fn answer(status: u16, fields: &[&'static str], body: &str) -> Response {
    answer_with(status, fields, ResponseBody::full(body.to_owned()))
}

pub(super) fn answer_with(status: u16, fields: &[&'static str], body: ResponseBody) -> Response {
    let fields: Vec<_> = fields.iter().map(|it| it.split_once(": ").expect("a field")).collect();
    response(status, &fields, body)
}

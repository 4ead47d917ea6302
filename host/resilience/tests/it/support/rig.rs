//! The [`Rig`]: a pipeline around an upstream, with a clock in milliseconds.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::testing::{self, Recorder, Script};
use fusebox_resilience::{
    Attempt, Call, ErrorKind, EventKind, Outcome, Pipeline, Policy, Random, RequestBody, Response,
    ResponseBody, Scope, Upstream, Worker,
};
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::time::ms;

/// When it ended, and with which status or failure.
pub(crate) type Ended = (u64, Result<u16, ErrorKind>);

/// A pipeline around an upstream; its clock starts at 0 when it is made.
pub(crate) struct Rig<U = Script> {
    pub(crate) upstream: U,
    pub(crate) pipeline: Pipeline,
    pub(crate) recorder: Recorder,
    worker: Rc<Worker>,
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
        let recorder = Recorder::default();
        let worker = Worker::new(recorder.observers(), Random::with_seed(1)).into();
        Self {
            upstream,
            pipeline: Pipeline::new(policies),
            recorder,
            worker,
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
        testing::call_on(&number.to_string(), request, body, self.worker.clone())
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

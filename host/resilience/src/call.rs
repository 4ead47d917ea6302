//! One client request on its way through a pipeline, shared by all its attempts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Version, request};
use smallvec::SmallVec;
use tokio::time::timeout;

use crate::body::{RequestBody, Starved};
use crate::error::Reached;
use crate::event::{AttemptOutcome, ComponentId, Event, EventKind};
use crate::outcome::Outcome;
use crate::provenance::{Provenance, RunId};
use crate::random::Random;
use crate::request::Request;
use crate::timers::{Elapsed, Timers};
use crate::tried::TriedEndpoints;
use crate::worker::{Worker, WorkerHandle};

/// How many ended attempts a call remembers for guests.
const HISTORY: usize = 16;

/// One client request: what every attempt sends, and what its attempts have come to so far.
///
/// It belongs to one worker. Policies read it; only attempts (`attempt.rs`) and further
/// runs (`scope.rs`) change what is known of it.
#[derive(Debug)]
pub struct Call {
    reporter: Reporter,
    body: RequestBody,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// Which it was.
    pub provenance: Provenance,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long it took.
    pub elapsed: Duration,
    /// The same less the time in which it waited for the client's body: what the upstream took.
    pub asked: Duration,
    /// Whether it ended while the client owed it, after a long wait, some of the body.
    pub is_owed: bool,
}

impl PastAttempt {
    /// The version of HTTP by which the upstream was asked; `None`: it was not, for all that is
    /// known.
    pub fn version(&self) -> Option<Version> {
        let Provenance { address, is_http2, .. } = self.provenance;
        let has_asked = match self.outcome {
            AttemptOutcome::Failure(kind) => kind.reached_upstream() == Reached::Maybe,
            AttemptOutcome::Response(_) | AttemptOutcome::Cancelled => true,
        };
        let version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        address.filter(|_| has_asked).map(|_| version)
    }
}

/// Emits the events of one request, also after its call has ended.
#[derive(Clone, Debug)]
pub struct Reporter(Rc<CallRecord>);

/// What is known of a call. In one place on the heap: a call is moved with its response.
#[derive(Debug)]
struct CallRecord {
    request: Request,
    worker: Rc<Worker>,
    attempts: Cell<u32>,
    runs: Cell<u32>,
    ended: Cell<u32>,
    endpoints: TriedEndpoints,
    /// The usual call has one, or one that was retried.
    history: RefCell<SmallVec<[PastAttempt; 2]>>,
}

impl Reporter {
    /// Whose events these are.
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// Emits what a policy did.
    pub fn emit(&self, policy: &Arc<str>, kind: impl Into<EventKind>) {
        self.tell(Some(policy), None, None, &kind.into());
    }

    /// See [`Call::emit_about`].
    pub(crate) fn emit_about(
        &self,
        attempt: u32,
        policy: &Arc<str>,
        decided_by: Option<&ComponentId>,
        kind: impl Into<EventKind>,
    ) {
        self.tell_about(attempt, Some(policy), decided_by, &kind.into());
    }

    fn tell_about(
        &self,
        attempt: u32,
        policy: Option<&Arc<str>>,
        decided_by: Option<&ComponentId>,
        kind: &EventKind,
    ) {
        let history = self.0.history.borrow();
        let past = history.iter().rev().find(|past| past.provenance.attempt == attempt);
        self.tell(policy, decided_by, past.map(|past| &past.provenance), kind);
    }

    /// How long the upstream took for this attempt, as far as is remembered.
    pub(crate) fn asked(&self, attempt: u32) -> Option<Duration> {
        let history = self.0.history.borrow();
        let past = history.iter().rev().find(|past| past.provenance.attempt == attempt);
        past.map(|past| past.asked)
    }

    /// Emits what no policy did.
    pub fn emit_own(&self, kind: impl Into<EventKind>) {
        self.tell(None, None, None, &kind.into());
    }

    /// Emits what no policy did about an outcome of this attempt.
    pub fn emit_own_about(&self, attempt: u32, kind: impl Into<EventKind>) {
        self.tell_about(attempt, None, None, &kind.into());
    }

    /// Whether an observer wants details. An event that is one is not made if nobody does.
    pub fn wants_details(&self) -> bool {
        self.0.worker.observers().wants_details()
    }

    pub(crate) fn tell(
        &self,
        policy: Option<&Arc<str>>,
        decided_by: Option<&ComponentId>,
        provenance: Option<&Provenance>,
        kind: &EventKind,
    ) {
        let request = Some(self.request());
        let endpoint = provenance.and_then(|provenance| self.0.endpoints.of(provenance.attempt));
        let endpoint = endpoint.as_ref();
        let observers = self.0.worker.observers();
        observers.emit(&Event { request, policy, decided_by, provenance, endpoint, kind });
    }
}

impl Call {
    /// The call of a request that this worker runs.
    #[inline]
    pub fn new(request: Request, body: RequestBody, worker: Rc<Worker>) -> Self {
        // It has half a kilobyte, and `Rc::new` would move it twice.
        let record = Rc::new_cyclic(|_| CallRecord {
            request,
            worker,
            attempts: Cell::new(0),
            runs: Cell::new(0),
            ended: Cell::new(0),
            endpoints: TriedEndpoints::default(),
            history: RefCell::default(),
        });
        Self { reporter: Reporter(record), body }
    }

    /// The same, as if it had made so many attempts, the last of which are these: for trying out a
    /// component.
    #[must_use]
    pub fn resumed(self, attempts: u32, history: Vec<PastAttempt>) -> Self {
        let record = &self.reporter.0;
        record.attempts.set(attempts);
        record.history.replace(history.into_iter().rev().take(HISTORY).rev().collect());
        self
    }

    /// A call of its own for the same request without its body, which may outlive this one.
    pub(crate) fn detached(&self) -> Self {
        let (request, worker) = (self.request().again(), self.worker().clone());
        Self::new(request, RequestBody::empty(), worker)
    }

    /// The same call while its response goes on, for questions about that. It leaves alone what is
    /// still to come of the request's body.
    pub(crate) fn afterwards(&self) -> Self {
        Self { reporter: self.reporter.clone(), body: RequestBody::empty() }
    }

    /// The worker that runs it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.record().worker
    }

    fn record(&self) -> &CallRecord {
        &self.reporter.0
    }

    /// What the client asks for.
    pub fn request(&self) -> &Request {
        self.reporter.request()
    }

    /// Tells the observers; a clone of it may outlive the call.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// See [`Request::id`].
    pub fn id(&self) -> &str {
        self.request().id()
    }

    /// See [`Request::route`].
    pub fn route(&self) -> &Arc<str> {
        self.request().route()
    }

    /// See [`Request::head`].
    pub fn head(&self) -> &request::Parts {
        self.request().head()
    }

    /// See [`Request::headers`].
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.request().headers()
    }

    /// See [`Request::header`].
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.request().header(name)
    }

    /// See [`Request::elapsed`].
    pub fn elapsed(&self) -> Duration {
        self.request().elapsed()
    }

    /// See [`Request::wall_clock`].
    pub fn wall_clock(&self) -> SystemTime {
        self.request().wall_clock()
    }

    /// The request body.
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// How many attempts have begun.
    pub fn attempts(&self) -> u32 {
        self.record().attempts.get()
    }

    /// The attempts that have ended, oldest first; the last 16.
    pub fn history(&self) -> Vec<PastAttempt> {
        self.record().history.borrow().iter().copied().collect()
    }

    fn timers(&self) -> &Timers {
        self.record().worker.timers()
    }

    /// No attempt needs the rest of the request body any more: one that still sends it fails, which
    /// ends its connection.
    pub fn cut_body(&self) {
        self.body.cut();
    }

    /// For how long its attempts have waited for the client's body.
    pub fn starved(&self) -> Starved {
        self.body.starved()
    }

    /// What comes of `future`, unless `limit` is over first. The time in which an attempt waits for
    /// the client's body does not count.
    ///
    /// # Errors
    /// The limit is over.
    pub fn timeout<F: Future + Unpin>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.timers().timeout(limit, || self.starved(), future)
    }

    /// What comes of a run of this call. If its attempts wait for the client's body for too long,
    /// it first gives back what others want by `let_go`: they must not depend on a slow client.
    pub(crate) async fn attend(
        &self,
        mut run: impl Future<Output = Outcome> + Unpin,
        let_go: impl FnOnce(),
    ) -> Outcome {
        if self.body.is_empty() {
            return run.await;
        }
        let before = self.starved().time;
        loop {
            let starved = self.starved().time - before;
            let left = Starved::PATIENCE.saturating_sub(starved);
            if left.is_zero() {
                let_go();
                return run.await;
            }
            if let Ok(outcome) = timeout(left, &mut run).await {
                return outcome;
            }
        }
    }

    /// For delays that are drawn.
    pub fn random(&self) -> &Random {
        self.record().worker.random()
    }

    /// See [`Reporter::emit`].
    pub fn emit(&self, policy: &Arc<str>, kind: impl Into<EventKind>) {
        self.reporter.emit(policy, kind);
    }

    /// Emits what a policy did about an outcome of this attempt, and which component's answer led
    /// to it.
    pub fn emit_about(
        &self,
        attempt: u32,
        policy: &Arc<str>,
        decided_by: Option<&ComponentId>,
        kind: impl Into<EventKind>,
    ) {
        self.reporter.emit_about(attempt, policy, decided_by, kind);
    }

    /// Emits what no policy did about an outcome of this attempt.
    pub fn emit_own_about(&self, attempt: u32, kind: impl Into<EventKind>) {
        self.reporter.emit_own_about(attempt, kind);
    }

    /// How long the upstream took for this attempt, as far as is remembered.
    pub fn asked(&self, attempt: u32) -> Option<Duration> {
        self.reporter.asked(attempt)
    }

    /// How long its upstreams took in all, as far as is remembered.
    pub fn asked_in_all(&self) -> Duration {
        self.record().history.borrow().iter().map(|past| past.asked).sum()
    }

    /// See [`PastAttempt::is_owed`].
    pub fn is_owed(&self, attempt: u32) -> bool {
        self.past(attempt).is_some_and(|past| past.is_owed)
    }

    /// The attempt of this number, if it has ended and is remembered.
    pub fn past(&self, attempt: u32) -> Option<PastAttempt> {
        let history = self.record().history.borrow();
        history.iter().rev().find(|past| past.provenance.attempt == attempt).copied()
    }

    /// See [`Worker::handle`].
    pub(crate) fn handle<T: Send + Sync + 'static>(&self, shared: &Arc<T>) -> Rc<WorkerHandle<T>> {
        self.record().worker.handle(shared)
    }

    /// How many attempts have ended.
    pub(crate) fn ended_attempts(&self) -> u32 {
        self.record().ended.get()
    }

    /// The attempts that have ended after the first so many, as far as they are remembered.
    pub(crate) fn ended_after(&self, ended: u32) -> SmallVec<[PastAttempt; 1]> {
        let history = self.record().history.borrow();
        let count = (self.ended_attempts() - ended) as usize;
        history[history.len().saturating_sub(count)..].iter().copied().collect()
    }

    /// Numbers a further run of a part of the pipeline.
    pub(crate) fn next_run(&self) -> RunId {
        let run = RunId(self.record().runs.get() + 1);
        self.record().runs.set(run.0);
        run
    }

    /// Numbers a further attempt.
    pub(crate) fn next_attempt(&self) -> u32 {
        let number = self.record().attempts.get() + 1;
        self.record().attempts.set(number);
        number
    }

    /// Takes the request's header map, whose memory another request can use; `None` if somebody
    /// still holds the request.
    pub fn take_headers(&mut self) -> Option<HeaderMap> {
        Some(Rc::get_mut(&mut self.reporter.0)?.request.take_headers())
    }

    /// A policy has no use for an outcome: see [`OutcomeExt::discard`]. Another response can use
    /// the memory of its headers.
    pub(crate) fn discard(&self, outcome: Outcome) {
        if let Ok(response) = outcome {
            self.worker().spare_headers().put_fields(response.discard());
        }
    }

    /// The endpoints that its attempts have gone to, of upstreams that have several.
    pub(crate) fn endpoints(&self) -> &TriedEndpoints {
        &self.record().endpoints
    }

    /// Whether one of its attempts has gone to this endpoint, of several of an upstream.
    pub fn has_tried(&self, endpoint: &Arc<str>) -> bool {
        self.endpoints().has(endpoint)
    }

    /// Whether one of its attempts has gone to an endpoint of an upstream with several.
    pub fn has_tried_any(&self) -> bool {
        !self.endpoints().is_empty()
    }

    /// Remembers an attempt that has ended.
    pub(crate) fn remember(&self, past: PastAttempt) {
        self.record().ended.set(self.ended_attempts() + 1);
        let mut history = self.record().history.borrow_mut();
        if history.len() == HISTORY {
            history.remove(0);
        }
        history.push(past);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.body.cut();
    }
}

//! One client request on its way through a pipeline, shared by all its attempts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, request};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::clock;
use crate::event::{AttemptOutcome, ComponentId, Event, EventKind, Observers};
use crate::outcome::Outcome;
use crate::timers::Timers;

/// How many ended attempts a call remembers for guests.
const HISTORY: usize = 16;

/// One client request: what every attempt sends, and what its attempts have come to so far.
///
/// It belongs to one worker. Policies read it; only attempts change it, through
/// [`begin_attempt`](Self::begin_attempt).
#[derive(Debug)]
pub struct Call {
    id: HeaderValue,
    route: Arc<str>,
    head: request::Parts,
    added: Option<Added>,
    body: RequestBody,
    started: Instant,
    started_at: SystemTime,
    attempts: Cell<u32>,
    /// The usual call has one.
    history: RefCell<SmallVec<[PastAttempt; 1]>>,
    observers: Observers,
    timers: Timers,
}

/// Headers that are the same for many calls: to look at a shared list costs less than to put it
/// into each call's map.
pub type Added = Rc<[(HeaderName, HeaderValue)]>;

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long it took.
    pub elapsed: Duration,
}

impl Call {
    /// A call that starts now. `id` is text; `head` is what each attempt sends; `started_at` is the
    /// wall clock's time of this moment, against which dates in `Retry-After` are read.
    pub fn new(
        id: HeaderValue,
        route: Arc<str>,
        head: request::Parts,
        body: RequestBody,
        started_at: SystemTime,
        observers: Observers,
    ) -> Self {
        Self {
            id,
            route,
            head,
            added: None,
            body,
            started: clock::now(),
            started_at,
            attempts: Cell::new(0),
            history: RefCell::default(),
            observers,
            timers: Timers::default(),
        }
    }

    /// The same with its worker's timers, so that its limits cost less.
    #[must_use]
    pub fn with_timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// The same; each attempt sends these headers too, none of which is among its own.
    #[must_use]
    pub fn with_added(mut self, added: Option<Added>) -> Self {
        self.added = added;
        self
    }

    /// As if it had begun so long ago and had made so many attempts since, the last of which are
    /// these: for trying out a component.
    #[must_use]
    pub fn resumed(mut self, elapsed: Duration, attempts: u32, history: Vec<PastAttempt>) -> Self {
        self.started = self.started.checked_sub(elapsed).unwrap_or(self.started);
        self.attempts = Cell::new(attempts);
        self.history = RefCell::new(history.into_iter().rev().take(HISTORY).rev().collect());
        self
    }

    /// The same call for whoever still speaks of it when it has ended: what outlives it needs no
    /// body, and has no attempts to look back on.
    #[must_use]
    pub fn without_body(&self) -> Self {
        Self {
            id: self.id.clone(),
            route: self.route.clone(),
            head: self.head.clone(),
            added: self.added.clone(),
            body: RequestBody::empty(),
            started: self.started,
            started_at: self.started_at,
            attempts: self.attempts.clone(),
            history: RefCell::default(),
            observers: self.observers.clone(),
            timers: self.timers.clone(),
        }
    }

    /// The request id, which every line about this call carries.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The same as a header's value.
    pub fn id_header(&self) -> &HeaderValue {
        &self.id
    }

    /// The name of the route that it took.
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// Method and target, as every attempt sends them, and its own headers.
    pub fn head(&self) -> &request::Parts {
        &self.head
    }

    /// All headers that every attempt sends.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let added = self.added.iter().flat_map(|added| added.iter());
        self.head.headers.iter().chain(added.map(|(name, value)| (name, value)))
    }

    /// The first of these headers with this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        let added = || {
            let found = self
                .added
                .as_ref()?
                .iter()
                .find(|(added, _)| added.as_str().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        };
        self.head.headers.get(name).or_else(added)
    }

    /// Its own headers, whose memory is of use to another when the call has ended.
    pub fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.head.headers)
    }

    /// The request body.
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// When it arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it arrived, by the wall clock.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Since it arrived.
    pub fn elapsed(&self) -> Duration {
        clock::now() - self.started
    }

    /// The wall clock's time, derived from that of the arrival.
    pub fn wall_clock(&self) -> SystemTime {
        self.started_at + self.elapsed()
    }

    /// How many attempts have begun.
    pub fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    /// The attempts that have ended, oldest first; the last 16.
    pub fn history(&self) -> Vec<PastAttempt> {
        self.history.borrow().iter().copied().collect()
    }

    /// For limits on what it waits for.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Tells the observers.
    pub fn emit(&self, policy: &str, kind: EventKind) {
        self.emit_decided(policy, None, kind);
    }

    /// Tells the observers of what a policy did because a component said so.
    pub fn emit_decided(&self, policy: &str, decided_by: Option<&ComponentId>, kind: EventKind) {
        self.observers.emit(&Event {
            call: Some(self),
            policy: Some(policy),
            decided_by,
            kind: &kind,
        });
    }

    /// Tells the observers of what no policy did.
    pub fn emit_own(&self, kind: EventKind) {
        self.observers.emit(&Event {
            call: Some(self),
            policy: None,
            decided_by: None,
            kind: &kind,
        });
    }

    /// Who listens, for what outlives the call.
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Counts an attempt. Called by the upstream, so that retries and hedges share one count.
    pub fn begin_attempt(&self) -> Attempt<'_> {
        let number = self.attempts.get() + 1;
        self.attempts.set(number);
        Attempt { call: self, number, started: clock::now(), ended: false }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.body.cut();
    }
}

/// An attempt under way. Dropped before it has ended, it was cancelled.
#[derive(Debug)]
pub struct Attempt<'a> {
    call: &'a Call,
    number: u32,
    started: Instant,
    ended: bool,
}

impl Attempt<'_> {
    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// It ended: numbers the outcome and tells the observers.
    pub fn finish(mut self, mut outcome: Outcome) -> Outcome {
        let short = match &mut outcome {
            Ok(response) => {
                response.set_attempt(self.number);
                AttemptOutcome::Response(response.status.as_u16())
            }
            Err(error) => {
                error.set_attempt(self.number);
                AttemptOutcome::Failure(error.kind())
            }
        };
        self.end(short);
        outcome
    }

    fn end(&mut self, outcome: AttemptOutcome) {
        self.ended = true;
        let past =
            PastAttempt { number: self.number, outcome, elapsed: clock::now() - self.started };
        let mut history = self.call.history.borrow_mut();
        if history.len() == HISTORY {
            history.remove(0);
        }
        history.push(past);
        drop(history);
        self.call.emit_own(EventKind::AttemptFinished {
            attempt: self.number,
            outcome,
            elapsed: past.elapsed,
        });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(AttemptOutcome::Cancelled);
        }
    }
}

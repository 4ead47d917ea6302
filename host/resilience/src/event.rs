//! What happened, and who listens.
//!
//! Policies only emit; nothing here logs or counts. Log and metrics (and whatever comes later) are
//! [`Observer`]s that match [`EventKind`] exhaustively, so that a new event does not compile until
//! each has decided what to do with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::circuit_breaker::State;
use crate::error::ErrorKind;

/// Something that happened, to a call or to what serves calls.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The call that it concerns.
    pub call: Option<&'a Call>,
    /// The policy that says so.
    pub policy: Option<&'a str>,
    /// The version of a component whose answer to a condition led to it.
    pub decided_by: Option<&'a ComponentId>,
    /// What.
    pub kind: &'a EventKind,
}

/// How an attempt ended, short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response with this status.
    Response(u16),
    /// No response.
    Failure(ErrorKind),
    /// Nobody waited for it any longer: a timeout around it, a hedge that won, or the client that
    /// left.
    Cancelled,
}

/// Why a failure that a retry policy handles was not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The upstream may have acted on it, and the method is not idempotent.
    Method,
    /// The request body is longer than what is kept for replay.
    Body,
    /// The upstream asks for a longer wait than `max_retry_after`.
    RetryAfter,
    /// An open circuit breaker stays open for longer than the policy may wait.
    CircuitOpen,
    /// The retry budget is spent.
    Budget,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// An attempt ended.
    AttemptFinished {
        /// Its number, from 1.
        attempt: u32,
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long it took.
        elapsed: Duration,
    },
    /// A further attempt will follow.
    RetryScheduled {
        /// Its number among the retries, from 1.
        retry: u32,
        /// When.
        delay: Duration,
    },
    /// The policy gave up: `max_retries` or `max_duration` is reached.
    RetriesExhausted {
        /// The retries that were made.
        retries: u32,
    },
    /// `abort_if` ended the retries.
    RetryAborted,
    /// A handled failure was not retried.
    RetrySkipped {
        /// Why.
        reason: NoRetry,
    },
    /// A timeout policy cut the call off.
    TimeoutExceeded {
        /// Its limit.
        limit: Duration,
    },
    /// A circuit breaker changed its state.
    CircuitStateChanged {
        /// From.
        from: State,
        /// To.
        to: State,
        /// How long it stays open, if it opened.
        delay: Option<Duration>,
    },
    /// A policy turned the call away.
    CallRejected {
        /// With this.
        kind: ErrorKind,
        /// When asking again may help.
        retry_after: Option<Duration>,
    },
    /// A fallback answered.
    FallbackServed {
        /// Its status.
        status: u16,
        /// The version of a component that made it; none: it is static.
        component: Option<ComponentId>,
    },
    /// A fallback's component declined, or failed to answer: the original outcome goes out.
    FallbackDeclined,
    /// A call into a component failed and cost only itself.
    ComponentFaulted {
        /// Which, and in which version.
        component: ComponentId,
        /// How.
        fault: Fault,
        /// What the runtime or the guest said of it.
        detail: Arc<str>,
    },
    /// A component wrote a line to its stdout or stderr.
    ComponentPrinted {
        /// Which.
        component: ComponentId,
        /// The line, cut at a bound.
        line: Arc<str>,
    },
    /// What a component was asked, and said, was wanted for a case.
    ExchangeCaptured {
        /// Which.
        component: ComponentId,
        /// The case, as JSON.
        case: Arc<str>,
    },
    /// A component was loaded in place of nothing or of an older version.
    ComponentLoaded {
        /// Which.
        component: ComponentId,
        /// The version that it replaced.
        replaced: Option<ComponentId>,
    },
    /// A new version was not taken; what was loaded before stays.
    ComponentRejected {
        /// The component's name in the configuration.
        name: Arc<str>,
        /// The SHA-256 of what was not taken, in hex; none if it could not be read.
        digest: Option<Arc<str>>,
        /// Why.
        reason: Arc<str>,
    },
    /// An earlier version was put back in place of one that faulted on probation, or that an
    /// operator took out.
    ComponentRolledBack {
        /// The version that answers now.
        component: ComponentId,
        /// The version that did.
        from: ComponentId,
        /// The faults that led to it; none if it was done by hand.
        faults: Option<u32>,
    },
    /// A component kept faulting and was set aside: it is not called but for a trial now and then.
    ComponentQuarantined {
        /// Which.
        component: ComponentId,
        /// How many calls in a row had failed.
        faults: u32,
        /// How often it gets a trial call.
        interval: Duration,
    },
    /// A trial call succeeded: the component is called again.
    ComponentReleased {
        /// Which.
        component: ComponentId,
    },
    /// A response body broke off, or stalled, after its head was sent: the client's connection was
    /// closed.
    ResponseIncomplete {
        /// How.
        kind: ErrorKind,
    },
    /// The call ended, and with it the response body.
    CallFinished {
        /// The status that the client got; none if it left before one was sent.
        status: Option<u16>,
        /// What is behind a status of our own making,
        failure: Option<ErrorKind>,
        /// and what is beneath that: for the log, never for the client.
        detail: Option<Arc<str>>,
        /// Bytes of the response body that were sent.
        bytes: u64,
        /// From the request's arrival to the end of the response body.
        elapsed: Duration,
    },
}

/// One version of a component: the place it fills and what fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentId {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The SHA-256 of its file, in hex.
    pub digest: Arc<str>,
    /// Counts the versions since the start, from 1.
    pub generation: u64,
}

/// How a call into a component failed.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It trapped: a panic, an exception, an illegal operation.
    Trap,
    /// It ran longer than its `timeout`.
    Timeout,
    /// It asked for more memory than it may have.
    Memory,
    /// It asked for more table elements, or handles of the host's resources, than it may have.
    Table,
    /// It went deeper than its stack.
    Stack,
    /// It handed more bytes to the host in one call, or asked for more, than it may.
    HostBytes,
    /// It asked the host more often in one call than it may.
    HostCalls,
    /// It called what it may not call there, or waited.
    Misuse,
    /// It answered with something that is no answer: an invalid status or header.
    BadAnswer,
    /// It could not be instantiated.
    Instantiation,
}

impl Fault {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::Table,
        Self::Stack,
        Self::HostBytes,
        Self::HostCalls,
        Self::Misuse,
        Self::BadAnswer,
        Self::Instantiation,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Stack => "stack",
            Self::HostBytes => "host-bytes",
            Self::HostCalls => "host-calls",
            Self::Misuse => "misuse",
            Self::BadAnswer => "bad-answer",
            Self::Instantiation => "instantiation",
        }
    }
}

/// Hears of events. Must not block: it is called on the workers, between two lines of a request.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);
}

/// Everyone who listens.
#[derive(Clone, Default)]
pub struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    /// These.
    pub fn new(observers: impl Into<Arc<[Arc<dyn Observer>]>>) -> Self {
        Self(observers.into())
    }

    /// The same ones, in a list of its own: workers that clone theirs for every call would else
    /// share the count of its references.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self(self.0.iter().cloned().collect())
    }

    /// Tells all of them, in order.
    pub fn emit(&self, event: &Event<'_>) {
        for observer in &*self.0 {
            observer.observe(event);
        }
    }

    /// Tells them of something that concerns no call.
    pub fn emit_for_policy(&self, policy: Option<&str>, kind: &EventKind) {
        self.emit(&Event { call: None, policy, decided_by: None, kind });
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").field(&self.0.len()).finish()
    }
}

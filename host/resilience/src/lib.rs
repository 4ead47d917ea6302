//! The loops of fusebox: timeout, retry, circuit breaker, fallback and adaptive throttler around
//! one upstream call, in the semantics of failsafe-go.
//!
//! # The life of a call
//!
//! 1. The proxy makes a [`Call`] of a client's request and hands it to a [`Pipeline`] with an
//!    [`Upstream`].
//! 2. The outermost [`Policy`] runs. It gets the call and [`Next`], the rest of the pipeline, which
//!    it runs zero, one or several times. `[a, b, c]` runs `a(b(c(upstream)))`.
//! 3. Innermost, the upstream makes one attempt on the wire. What comes back is an [`Outcome`]: a
//!    [`Response`], whose body is still streaming, or an [`Error`].
//! 4. On its way out each policy judges the outcome of what is inside it with its own
//!    [`Condition`], which may ask a component. A fallback's answer counts as a success for
//!    everything outside it; an inner policy's rejection says nothing about the upstream.
//! 5. The proxy sends the response, or turns the error into one.
//!
//! # Cancel safety
//!
//! Cancelling is dropping. All attempts borrow the call and live in the future that
//! [`Pipeline::execute`] returned; nothing is spawned. Whatever a policy acquires is held by a
//! guard, and a breaker's permit that is dropped unanswered is neutral. So a timeout *outside* a
//! breaker cuts an attempt off and the breaker records nothing; slow attempts count with the
//! timeout *inside* it, or by its `slow_call`. On an HTTP/1 upstream a cancelled attempt costs its
//! connection.
//!
//! # Time and chance
//!
//! [`tokio::time`] is the clock, which tests pause; state machines take `now` as a parameter.
//! Chance comes from one seeded [`Random`].

mod asked_again;
mod attempt;
mod background;
mod blame;
mod body;
mod boxed;
mod branch;
mod budget;
mod call;
mod call_fields;
mod client_waits;
pub mod clock;
mod condition;
pub mod config;
mod delay;
mod delayer;
mod error;
mod event;
mod gate;
mod gated;
mod grpc;
mod held_until;
mod key;
mod keyed;
mod keyer;
mod layers;
mod levels;
mod native;
mod outcome;
mod outline;
mod parts;
mod policies;
mod policy;
mod policy_states;
mod preconditions;
mod predicate;
mod priority;
mod provenance;
mod question_turns;
mod random;
mod recent;
mod request;
mod retry_after;
mod review;
pub mod room;
mod scope;
mod sharded;
mod slot;
mod spare_headers;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod tried;
mod users;
mod value_hash;
mod way_out;
mod worker;

pub use attempt::Attempt;
pub use background::Background;
pub use body::{
    AttemptBody, BodyEnd, BodyHold, BodyStream, LateFailureCause, OnEnd, Peek, ReplayLimit,
    ReplayMemory, RequestBody, ResponseBody, Starved,
};
pub use boxed::boxed;
pub use budget::{Budget, BudgetConfig, BudgetStatus};
pub use call::{Call, PastAttempt, Reporter};
pub use condition::{AttemptsConfig, Condition, ConditionConfig, OnlyConfig, WordsConfig};
pub use delay::DelayConfig;
pub use delayer::{DelayDecision, Delayer};
pub use error::{Behind, BoxError, Error, ErrorKind, Failure, Origin, Reached};
pub use event::{
    AdaptiveLimiterEvent, AdaptiveThrottlerEvent, AdminEvent, AttemptEvent, AttemptOutcome,
    BodyLimit, CacheEvent, CacheResult, CallEvent, CertificateEvent, CircuitBreakerEvent,
    CircuitState, ComponentEvent, ComponentId, ConditionEvent, ConnectionEvent, ConnectionLimit,
    Denial, EndpointEvent, EndpointLimit, EndpointName, Event, EventKind, FallbackEvent, Fault,
    HandshakeFailure, HedgeEvent, Http2Fault, KeysEvent, LimitChangeKind, NoHedge, NoRetry,
    NotStored, Observer, Observers, QueueEvent, RequestFlaw, RetryEvent, SentAgainCause,
    ServerEvent, StaleReason, TimeoutEvent, TunnelEnd, TunnelEvent,
};
pub use gate::{EndpointGates, EndpointLook, GateRefusal, GatedEndpoint};
pub use grpc::{GrpcOutcome, GrpcStatus, is_grpc};
pub use held_until::HeldUntil;
pub use key::{CallKey, KeyConfig, KeySourceConfig, query_values};
pub use keyer::{KeyQuestion, Keyer};
pub use layers::{ATTEMPT, Marks};
pub use native::{Native, StatusConfig};
pub use outcome::{Outcome, OutcomeExt, Response};
pub use outline::{Acts, ActsResult, Outline};
pub use parts::Parts;
pub use policies::{
    AdaptiveLimiter, AdaptiveLimiterConfig, AdaptiveThrottler, AdaptiveThrottlerConfig,
    BackoffConfig, Bulkhead, BulkheadConfig, CacheConfig, CircuitBreaker, CircuitBreakerConfig,
    CircuitScopeConfig, CircuitStatus, DelayQuantileConfig, Fallback, FallbackConfig, Hedge,
    HedgeConfig, JitterConfig, LimiterQueueConfig, LimiterWindowConfig, RandomDelayConfig,
    RateLimiter, RateLimiterConfig, RespondConfig, ResponseCache, Retry, RetryConfig, Timeout,
    TimeoutConfig, WindowCounts, is_set_by_host, policy_kinds,
};
pub use policy::{
    AnyPolicyConfig, DetachedPipeline, Next, Pipeline, Policy, PolicyConfig, PolicyKind,
    ReadPolicyConfig, Shown, ShownEndpoint, ShownKey, ShownKeys,
};
pub use policy_states::PolicyStates;
pub use preconditions::Preconditions;
pub use predicate::{Answer, Exchange, Predicate, Responder, Verdict};
pub use priority::{LEVEL, PRIORITY, PriorityClass, PriorityLevel};
pub use provenance::{Provenance, Role, RunId};
pub use question_turns::QuestionTurns;
pub use random::Random;
pub use request::{Added, ClientCertificate, Request};
pub use retry_after::requested_delay;
pub use review::{Remark, Review, ReviewRow, ReviewedRoute, Worst};
pub use scope::{Scope, Upstream};
pub use slot::Slot;
pub use spare_headers::SpareHeaders;
pub use timers::{Elapsed, Timer, Timers};
pub use users::{UserCall, UserTimes};
pub use way_out::WayOut;
pub use worker::Worker;

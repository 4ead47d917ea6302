//! The loops of fusebox: timeout, retry, circuit breaker and fallback around one upstream call, in
//! the semantics of failsafe-go.
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
//! breaker cuts an attempt off and the breaker records nothing; slow attempts count only with the
//! timeout *inside* it. On an HTTP/1 upstream a cancelled attempt costs its connection.
//!
//! # Time and chance
//!
//! [`tokio::time`] is the clock, which tests pause; state machines take `now` as a parameter.
//! Chance comes from one seeded [`Random`].

mod body;
mod call;
mod circuit_breaker;
pub mod clock;
mod condition;
pub mod config;
mod error;
mod event;
mod fallback;
mod outcome;
mod policy;
mod predicate;
mod random;
mod retry;
mod retry_after;
mod sharded;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod timeout;
mod timers;

pub use body::{AttemptBody, BodyStream, RequestBody, ResponseBody};
pub use call::{Added, Attempt, Call, PastAttempt};
pub use circuit_breaker::{CircuitBreaker, CircuitBreakerConfig, Counts, State, Status};
pub use condition::{Condition, ConditionConfig, Native, OnlyConfig, StatusConfig};
pub use error::{BoxError, Error, ErrorKind, Failure, Origin, Reached};
pub use event::{
    AttemptOutcome, ComponentId, Event, EventKind, Fault, NoRetry, Observer, Observers,
};
pub use fallback::{Fallback, FallbackConfig, RespondConfig, is_set_by_host};
pub use outcome::{Outcome, OutcomeExt, Response};
pub use policy::{Next, Pipeline, Policy, Upstream};
pub use predicate::{Answer, Exchange, Peek, Predicate, Responder, Slot, Verdict};
pub use random::Random;
pub use retry::{
    BackoffConfig, Budget, BudgetConfig, JitterConfig, RandomDelayConfig, Retry, RetryConfig,
};
pub use timeout::{Timeout, TimeoutConfig};
pub use timers::{Elapsed, Timer, Timers, poll_until};

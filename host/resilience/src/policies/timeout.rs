//! Timeout: cuts a call off at a limit.
//!
//! **What it protects from.** An upstream that answers late or never. The limit runs from the
//! policy's entry to the response head and covers everything inside: attempts, the delays between
//! them, waits. While an attempt waits for the client's body its clock stands still: that is not
//! the upstream's time. A response body is the proxy's business (its idle limit), not this
//! policy's.
//!
//! **Events.** [`TimeoutEvent`].
//!
//! **Composition.** Inside a retry, each attempt has its own limit. Outside, one limit covers all
//! attempts. A timeout *outside* a breaker cuts the attempt off and the breaker sees a
//! cancellation, which is neutral unless it was slower than `slow_call`: to make slow calls count
//! as failures, put the timeout *inside* the breaker, or give that a `slow_call`.
//!
//! On an HTTP/1 upstream the cut costs the connection, which is how the upstream sees that nobody
//! waits any longer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use crate::boxed::boxed;
use crate::call::Call;
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind, Failure};
use crate::event::{EventKind, TimeoutEvent};
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig};

/// `kind = "timeout"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TimeoutConfig {
    /// From entry to the response head; at least 1 ms.
    pub limit: ConfigDuration,
}

impl PolicyConfig for TimeoutConfig {
    const KIND: &'static str = "timeout";

    type Policy = Timeout;

    fn build(self, name: Arc<str>, _: &dyn Parts) -> Result<Timeout, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require_time(self.limit, "limit");
        problems.into_result(Timeout { name, limit: self.limit.0 })
    }
}

/// Cuts a call off at a limit.
#[derive(Debug)]
pub struct Timeout {
    name: Arc<str>,
    limit: Duration,
}

impl Policy for Timeout {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        TimeoutConfig::KIND
    }

    fn announces(&self) -> Vec<EventKind> {
        vec![TimeoutEvent::Exceeded { limit: self.limit }.into()]
    }

    fn outline(&self) -> Outline<'_> {
        Outline {
            limit: Some(self.limit),
            makes: &[Failure::Timeout],
            ..Outline::passing(format!("up to {} to the response head", ConfigDuration(self.limit)))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let before = next.scope().last_attempt(call);
            let scope = next.scope().limited(call, self.limit);
            match call.timeout(self.limit, next.within(&scope).run(call)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    // Of those that were made inside; what was made before is not to blame.
                    let last = next.scope().last_attempt(call);
                    let attempt = if last != before { last } else { 0 };
                    let kind = TimeoutEvent::Exceeded { limit: self.limit };
                    call.emit_about(attempt, &self.name, None, kind);
                    Err(Error::new(ErrorKind::Timeout).of_attempt(attempt))
                }
            }
        })
    }
}

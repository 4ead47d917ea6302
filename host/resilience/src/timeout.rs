//! Timeout: cuts a call off at a limit.
//!
//! **What it protects from.** An upstream that answers late or never. The limit runs from the
//! policy's entry to the response head and covers everything inside: attempts, the delays between
//! them, waits. A body is the proxy's business (its idle limit), not this policy's.
//!
//! **Events.** `TimeoutExceeded`.
//!
//! **Composition.** Inside a retry, each attempt has its own limit. Outside, one limit covers all
//! attempts. A timeout *outside* a breaker cuts the attempt off and the breaker sees a
//! cancellation, which is neutral: to make slow calls count as failures, put the timeout *inside*
//! the breaker.
//!
//! On an HTTP/1 upstream the cut costs the connection, which is how the upstream sees that nobody
//! waits any longer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use crate::call::Call;
use crate::clock;
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::outcome::Outcome;
use crate::policy::{Next, Policy};

/// `kind = "timeout"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TimeoutConfig {
    /// From entry to the response head; more than 0.
    pub limit: ConfigDuration,
}

impl TimeoutConfig {
    /// The policy under this name.
    ///
    /// # Errors
    /// The limit is 0.
    pub fn build(self, name: Arc<str>) -> Result<Timeout, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require(!self.limit.0.is_zero(), "limit", || "must be more than 0".into());
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

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let deadline = clock::now() + self.limit;
            match call.timers().timeout(self.limit, next.until(deadline).run(call)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    call.emit(&self.name, EventKind::TimeoutExceeded { limit: self.limit });
                    Err(Error::new(ErrorKind::Timeout).of_attempt(call.attempts()))
                }
            }
        })
    }
}

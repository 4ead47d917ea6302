//! Timeout: cuts a call off at a limit.
//!
//! **What it protects from.** An upstream that answers late or never. The limit runs from the
//! policy's entry to the response head and covers everything inside: attempts, the delays between
//! them, waits. While an attempt waits for the client's body its clock stands still: that is not
//! the upstream's time. A response body may have limits of its own (`timeout/limited_body.rs`):
//! what they cut off is a failure that comes late.
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

mod limited_body;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use crate::boxed::boxed;
use crate::call::Call;
use crate::config::{ConfigDuration, ConfigSize, Problem, Problems};
use crate::error::{Error, ErrorKind, Failure};
use crate::event::{BodyLimit, EventKind, TimeoutEvent};
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig};
use limited_body::BodyLimits;

/// The bounds of what a body has to have of bytes in a second.
const RATES: std::ops::RangeInclusive<ConfigSize> = ConfigSize(1)..=ConfigSize::gib(1);

/// `kind = "timeout"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TimeoutConfig {
    /// From entry to the response head; at least 1 ms.
    pub limit: ConfigDuration,
    /// For how long the upstream is waited for after that, until the body has ended; at least 1 ms.
    /// Default: no limit.
    pub body_limit: Option<ConfigDuration>,
    /// The bytes of the body that it has to send in a second in which it is waited for, over 10 s,
    /// 1 B to 1 GiB. Default: no limit.
    pub min_rate: Option<ConfigSize>,
}

impl PolicyConfig for TimeoutConfig {
    const KIND: &'static str = "timeout";

    type Policy = Timeout;

    fn build(self, name: Arc<str>, _: &dyn Parts) -> Result<Timeout, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require_time(self.limit, "limit");
        if let Some(limit) = self.body_limit {
            problems.require_time(limit, "body_limit");
        }
        if let Some(rate) = self.min_rate {
            problems.require_within(rate, RATES, "min_rate");
        }
        let time = self.body_limit.map(|limit| limit.0);
        let of_body = BodyLimits { time, rate: self.min_rate.map(|rate| rate.0) };
        problems.into_result(Timeout { name, limit: self.limit.0, of_body })
    }
}

/// Cuts a call off at a limit.
#[derive(Debug)]
pub struct Timeout {
    name: Arc<str>,
    limit: Duration,
    of_body: BodyLimits,
}

impl Policy for Timeout {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        TimeoutConfig::KIND
    }

    fn announces(&self) -> Vec<EventKind> {
        let cut = [
            self.of_body.time.map(|_| BodyLimit::Time),
            self.of_body.rate.map(|_| BodyLimit::Rate),
        ];
        let cut = cut.into_iter().flatten().map(|limit| TimeoutEvent::BodyCut { limit });
        [TimeoutEvent::Exceeded { limit: self.limit }]
            .into_iter()
            .chain(cut)
            .map(Into::into)
            .collect()
    }

    fn outline(&self) -> Outline<'_> {
        Outline {
            limit: Some(self.limit),
            makes: &[Failure::Timeout],
            ..Outline::passing(format!(
                "up to {} to the response head{}",
                ConfigDuration(self.limit),
                self.of_body
            ))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let before = next.scope().last_attempt(call);
            let scope = next.scope().limited(call, self.limit);
            match call.timeout(self.limit, next.within(&scope).run(call)).await {
                Ok(mut outcome) => {
                    if let Ok(response) = &mut outcome
                        && self.of_body.is_any()
                    {
                        self.of_body.apply(call, &self.name, response);
                    }
                    outcome
                }
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

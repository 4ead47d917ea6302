//! What the file says of a retry.

use serde::Deserialize;

use super::backoff::{BackoffConfig, JitterConfig, RandomDelayConfig};
use crate::condition::ConditionConfig;
use crate::config::{ChangedDefault, ConfigDuration, Problem, Problems};
use crate::delay::DelayConfig;
use crate::policies::extra_budget::ExtraBudget;
use crate::policies::methods::Methods;

/// More are as good as unlimited.
pub(super) const MAX_RETRIES: i64 = 1_000_000;

/// What is not as it was in the version before.
pub(super) const CHANGED_DEFAULTS: &[ChangedDefault] = &[
    ChangedDefault {
        keys: &["jitter", "delay", "random_delay"],
        message: "is \"full\" for a backoff: each delay is drawn between 0 and its full \
                  length; it was none, as with `jitter = 0`",
    },
    ChangedDefault {
        keys: &["max_retry_after"],
        message: "is 10s; it was 60s, as with `max_retry_after = \"60s\"`",
    },
    ChangedDefault {
        keys: &["budget"],
        message: "is the upstream's own; it was none, as with `budget = \"none\"`",
    },
    ChangedDefault {
        keys: &["retry_retried"],
        message: "is false: what another fusebox retries is left to it; it was retried, as \
                  with `retry_retried = true`",
    },
    ChangedDefault {
        keys: &["handle_if"],
        message: "is without `other`, our own faults; it was with it, as with `handle_if = { \
                  failure = [\"dns\", \"connect\", \"tls\", \"connection-lost\", \
                  \"protocol\", \"timeout\", \"retries-exceeded\", \"other\"] }`",
    },
    ChangedDefault {
        keys: &["methods"],
        message: "is with QUERY, which asks and changes nothing; it was without it, as with \
                  `methods = [\"GET\", \"HEAD\", \"OPTIONS\", \"TRACE\", \"PUT\", \
                  \"DELETE\"]`",
    },
];

/// `kind = "retry"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Which outcomes are retried. Default: 429, 5xx except 501, failures of the upstream.
    pub handle_if: Option<ConditionConfig>,
    /// After the first attempt; 0 is allowed, -1 is unlimited. Default 2.
    pub max_retries: i64,
    /// A fixed delay before each retry. Or `{ component = "NAME" }`, which may say how long to
    /// wait in place of the policy's own delay: `own` beside it, or one of the next two.
    pub delay: Option<DelayConfig>,
    /// A growing delay. Default, if none of the three is given: 100 ms, doubled up to 5 s.
    pub backoff: Option<BackoffConfig>,
    /// A delay drawn anew for each retry.
    pub random_delay: Option<RandomDelayConfig>,
    /// `"full"`, from 0 to the delay; `"50ms"` or a factor of the delay such as `0.2`, either way.
    /// A wait that was asked for it only lengthens. Default: `"full"` for a backoff, 0 for the
    /// others; and up to 0.2 longer than was asked for.
    pub jitter: Option<JitterConfig>,
    /// Whether the delay is at least what `Retry-After` on 429 and 503 asks for, and
    /// `x-should-retry: false` is obeyed. Default true.
    pub retry_after: bool,
    /// The longest wait asked for that is granted; more means give up. Default 10 s.
    pub max_retry_after: ConfigDuration,
    /// No retry is scheduled once the call is older than this; an own delay is clipped to what is
    /// left of it, a running attempt is not cut. Default: none.
    pub max_duration: Option<ConfigDuration>,
    /// Outcomes that end the retries at once. Default: none.
    pub abort_if: Option<ConditionConfig>,
    /// Whether the last response goes out as it came; if not, `retries exceeded`. Default true.
    pub return_last_failure: bool,
    /// Methods that are safe to repeat; `["*"]` for all. Default: the idempotent ones of RFC 9110,
    /// section 9.2.2, and QUERY (RFC 10008).
    pub methods: Vec<String>,
    /// Whether to retry what another layer of proxies retries or has turned away. Default false.
    pub retry_retried: bool,
    /// The name of a `[budgets.NAME]`; `"none"` goes without. Default: the upstream's own.
    pub budget: Option<String>,
}

impl RetryConfig {
    /// What is allowed but hardly meant.
    pub(super) fn remarks(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let has_budget = !ExtraBudget::is_none(self.budget.as_deref());
        let is_bounded = self.max_retries != -1 || self.max_duration.is_some() || has_budget;
        problems.require(is_bounded, "max_retries", || {
            "unlimited retries without `max_duration` or a `budget`; 2 are usual".into()
        });
        problems.require(has_budget, "budget", || {
            "without one, nothing keeps retries from multiplying an overload; leave the key out \
             for the upstream's own"
                .into()
        });
        problems.require(!self.retry_retried, "retry_retried", || {
            "layers of proxies then multiply: three that retry make 27 requests of one; leave it \
             false"
                .into()
        });
        problems.require(!Methods::change_something(&self.methods), "methods", || {
            "has some that may change something each time they are repeated; without them, those \
             that carry an `Idempotency-Key` are retried"
                .into()
        });
        problems.require(!self.methods.is_empty(), "methods", || {
            "an empty list: only what has an `Idempotency-Key`, or never reached the upstream, is \
             retried"
                .into()
        });
        problems.into_result(()).err().unwrap_or_default()
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            handle_if: None,
            max_retries: 2,
            delay: None,
            backoff: None,
            random_delay: None,
            jitter: None,
            retry_after: true,
            max_retry_after: ConfigDuration::from_secs(10),
            max_duration: None,
            abort_if: None,
            return_last_failure: true,
            methods: Methods::idempotent(),
            retry_retried: false,
            budget: None,
        }
    }
}

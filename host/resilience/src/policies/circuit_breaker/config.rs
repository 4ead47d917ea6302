//! What the file says of a circuit breaker.

use std::time::Duration;

use serde::Deserialize;

use super::settings::{CircuitSettings, FailureThreshold, SlowThreshold, SuccessThreshold};
use crate::condition::ConditionConfig;
use crate::config::{ChangedDefault, ConfigDuration, Problems};
use crate::delay::DelayConfig;
use crate::key::KeyConfig;

/// How many results a window may hold.
const MAX_CAPACITY: usize = 100_000;

/// What is not as it was in the version before.
pub(super) const CHANGED_DEFAULTS: &[ChangedDefault] = &[
    ChangedDefault {
        keys: &["failure_threshold", "failure_rate"],
        message: "is none: a `failure_rate` of 0.5 opens it, with defaults of its own for \
                  `min_calls`, `period`, `success_threshold`, `delay` and `delay_factor`; it \
                  was 5, as with `failure_threshold = 5`",
    },
    ChangedDefault {
        keys: &["delay_jitter"],
        message: "is 0.1: delays are up to a tenth longer; it was none, as with \
                  `delay_jitter = 0`",
    },
    ChangedDefault {
        keys: &["handle_if"],
        message: "is without 429, which says that one client is too fast, without \
                  `retries-exceeded`, as what is behind it decides, and without `other`, our \
                  own faults; it was with them, as with `handle_if = { status = [\"429\", \
                  \"500\", \"502-599\"], failure = [\"dns\", \"connect\", \"tls\", \
                  \"connection-lost\", \"protocol\", \"timeout\", \
                  \"retries-exceeded\", \"other\"] }`",
    },
];

/// What has a state of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CircuitScopeConfig {
    /// The policy.
    #[default]
    Policy,
    /// Each endpoint.
    Endpoint,
}

/// `kind = "circuit-breaker"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreakerConfig {
    /// Which outcomes are failures. Default: 5xx except 501, failures of the upstream.
    pub handle_if: Option<ConditionConfig>,
    /// Which outcomes are neutral. Default: none.
    pub ignore_if: Option<ConditionConfig>,
    /// So many failures open it. Default: none; if `failure_rate` is not given either, half of at
    /// least 20 calls within 10 s open it, and three successes close it.
    pub failure_threshold: Option<usize>,
    /// Among so many of the last results, up to 100,000. Default: as many as `failure_threshold`,
    /// that is, consecutive ones.
    pub failure_capacity: Option<usize>,
    /// Within this time rather than among the last results.
    pub period: Option<ConfigDuration>,
    /// With `period`, in place of `failure_threshold`: this part of the calls, above 0 and up to
    /// 1.
    pub failure_rate: Option<f64>,
    /// With `failure_rate`: among at least so many calls. Default 10; 20 if no threshold is given.
    pub min_calls: Option<usize>,
    /// A call whose attempt takes the upstream longer is a failure. Default: none.
    pub slow_call: Option<ConfigDuration>,
    /// This part of slow calls opens it, above 0 and up to 1; they are then no failures. Needs
    /// `slow_call` and a `period`. Default: none.
    pub slow_call_rate: Option<f64>,
    /// For so long after it closes, the share of calls that is let through grows from a tenth.
    /// Default: none.
    pub ramp: Option<ConfigDuration>,
    /// So many successes close it from half-open. Default: the failure threshold decides; 3 if none
    /// is given.
    pub success_threshold: Option<usize>,
    /// Among so many trials. Default: as many as `success_threshold`.
    pub success_capacity: Option<usize>,
    /// How long it stays open. Default 60 s; 5 s if no threshold is given. A component may say
    /// otherwise: `{ component = "NAME" }`, with an `own` beside it for when it does not.
    pub delay: Option<DelayConfig>,
    /// By how much the delay grows with each opening in a row; at least 1. Default 1; 2 if no
    /// threshold is given.
    pub delay_factor: Option<f64>,
    /// The longest delay, grown or asked for. Default: 5 min, or `delay` if that is longer.
    pub max_delay: Option<ConfigDuration>,
    /// The part of itself by which a delay is longer at most, 0 to 1. Default 0.1.
    pub delay_jitter: f64,
    /// Whether a `Retry-After` of 1 s or more of a failing 429 or 503 sets the delay. Default
    /// false.
    pub retry_after: bool,
    /// A trial that takes longer has failed, and its late result is ignored. Default 60 s.
    pub trial_timeout: ConfigDuration,
    /// Whether each endpoint has a state of its own. Default: `policy`, there is one.
    pub scope: CircuitScopeConfig,
    /// By which calls are told apart; each value has a state of its own. Default: none.
    pub key: Option<KeyConfig>,
    /// So many keys, up to 1,000,000. Default 10,000.
    pub max_keys: Option<usize>,
    /// For so long a key that is not used is remembered. Default 10 min.
    pub idle: Option<ConfigDuration>,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            handle_if: None,
            ignore_if: None,
            failure_threshold: None,
            failure_capacity: None,
            period: None,
            failure_rate: None,
            min_calls: None,
            slow_call: None,
            slow_call_rate: None,
            ramp: None,
            success_threshold: None,
            success_capacity: None,
            delay: None,
            delay_factor: None,
            max_delay: None,
            delay_jitter: 0.1,
            retry_after: false,
            trial_timeout: ConfigDuration::from_secs(60),
            scope: CircuitScopeConfig::Policy,
            key: None,
            max_keys: None,
            idle: None,
        }
    }
}

impl CircuitBreakerConfig {
    /// With a threshold, what else is left out is as in failsafe-go.
    fn has_threshold(&self) -> bool {
        self.failure_threshold.is_some() || self.failure_rate.is_some()
    }

    /// What the machine is told, if nothing is wrong.
    pub(super) fn thresholds(&self, problems: &mut Problems) -> CircuitSettings {
        let failure = self.failure(problems);
        let success = self.success(problems);
        let (default, factor) = if self.has_threshold() { (60, 1.0) } else { (5, 2.0) };
        let delay = DelayConfig::own(self.delay.as_ref());
        let delay = delay.unwrap_or(ConfigDuration::from_secs(default));
        problems.require_time_or_zero(delay, "delay");
        let ConfigDuration(delay) = delay;
        // One of 0 has nothing to grow.
        let default_factor = if delay.is_zero() { 1.0 } else { factor };
        let delay_factor = self.delay_factor.unwrap_or(default_factor);
        problems.require(delay_factor.is_finite() && delay_factor >= 1.0, "delay_factor", || {
            format!("must be at least 1, is {delay_factor}")
        });
        problems.require(!delay.is_zero() || delay_factor <= 1.0, "delay_factor", || {
            "needs a `delay` of more than 0, which it could make grow".into()
        });
        let max_delay =
            self.max_delay.map_or(Duration::from_secs(300).max(delay), |max_delay| max_delay.0);
        problems.require(max_delay >= delay, "max_delay", || "must be at least `delay`".into());
        problems.require((0.0..=1.0).contains(&self.delay_jitter), "delay_jitter", || {
            format!("must be from 0 to 1, is {}", self.delay_jitter)
        });
        problems.require_time(self.trial_timeout, "trial_timeout");
        CircuitSettings {
            failure,
            success,
            delay,
            delay_factor,
            max_delay,
            delay_jitter: self.delay_jitter,
            // Each circuit gets its own.
            seed: 0,
            trial_timeout: self.trial_timeout.0,
            ramp: self.ramp.map(|ramp| ramp.0),
            slow: self.slow(failure, problems),
        }
    }

    fn slow(&self, failure: FailureThreshold, problems: &mut Problems) -> Option<SlowThreshold> {
        if let Some(ramp) = self.ramp {
            problems.require_time(ramp, "ramp");
        }
        let rate = self.slow_call_rate?;
        problems.require(rate > 0.0 && rate <= 1.0, "slow_call_rate", || {
            format!("must be above 0 and at most 1, is {rate}")
        });
        problems
            .require(self.slow_call.is_some(), "slow_call_rate", || "needs a `slow_call`".into());
        problems.require(failure.is_by_time(), "slow_call_rate", || "needs a `period`".into());
        let min_calls = match failure {
            FailureThreshold::Rate { min_calls, .. } => min_calls,
            FailureThreshold::Period { .. } | FailureThreshold::Count { .. } => {
                let min_calls = self.min_calls.unwrap_or(10);
                problems.require_within(min_calls, 1..=MAX_CAPACITY, "min_calls");
                min_calls
            }
        };
        Some(SlowThreshold { rate, min_calls })
    }

    fn failure(&self, problems: &mut Problems) -> FailureThreshold {
        match (self.failure_rate, self.period) {
            (Some(rate), _) => self.rate(rate, 10, None, problems),
            (None, _) if !self.has_threshold() => {
                self.rate(0.5, 20, Some(ConfigDuration::from_secs(10)), problems)
            }
            (None, period) => {
                let is_used = self.min_calls.is_none() || self.slow_call_rate.is_some();
                problems.require(is_used, "min_calls", || {
                    "needs a `failure_rate`, or a `slow_call_rate`".into()
                });
                self.count(period, problems)
            }
        }
    }

    fn rate(
        &self,
        rate: f64,
        min_calls: usize,
        period: Option<ConfigDuration>,
        problems: &mut Problems,
    ) -> FailureThreshold {
        problems.require(rate > 0.0 && rate <= 1.0, "failure_rate", || {
            format!("must be above 0 and at most 1, is {rate}")
        });
        problems.require(self.failure_threshold.is_none(), "failure_threshold", || {
            "either a threshold or a `failure_rate`".into()
        });
        problems.require(self.failure_capacity.is_none(), "failure_capacity", || {
            "needs a `failure_threshold`".into()
        });
        let min_calls = self.min_calls.unwrap_or(min_calls);
        problems.require_within(min_calls, 1..=MAX_CAPACITY, "min_calls");
        let period = self.period.or(period);
        problems.require(period.is_some(), "failure_rate", || "needs a `period`".into());
        let period = period.unwrap_or(ConfigDuration::SHORTEST);
        problems.require_time(period, "period");
        FailureThreshold::Rate { rate, min_calls, period: period.0 }
    }

    fn count(&self, period: Option<ConfigDuration>, problems: &mut Problems) -> FailureThreshold {
        let failures = self.failure_threshold.unwrap_or(1);
        problems.require_within(failures, 1..=MAX_CAPACITY, "failure_threshold");
        if let Some(period) = period {
            problems.require_time(period, "period");
            problems.require(self.failure_capacity.is_none(), "failure_capacity", || {
                "either a capacity or a `period`".into()
            });
            return FailureThreshold::Period { failures, period: period.0 };
        }
        let capacity = self.failure_capacity.unwrap_or(failures);
        if self.failure_capacity.is_some() {
            problems.require_within(capacity, failures..=MAX_CAPACITY, "failure_capacity");
        }
        FailureThreshold::Count { failures, capacity }
    }

    fn success(&self, problems: &mut Problems) -> Option<SuccessThreshold> {
        let default = if self.has_threshold() { None } else { Some(3) };
        let Some(successes) = self.success_threshold.or(default) else {
            problems.require(self.success_capacity.is_none(), "success_capacity", || {
                "needs a `success_threshold`".into()
            });
            return None;
        };
        problems.require_within(successes, 1..=MAX_CAPACITY, "success_threshold");
        let capacity = self.success_capacity.unwrap_or(successes);
        if self.success_capacity.is_some() {
            problems.require_within(capacity, successes..=MAX_CAPACITY, "success_capacity");
        }
        Some(SuccessThreshold { successes, capacity })
    }
}

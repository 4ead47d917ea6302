//! Circuit breaker: stops asking an upstream that keeps failing, until it has had time to recover.
//!
//! **What it protects from.** Waiting for, and piling load onto, an upstream that is down. Closed,
//! traffic flows and results are counted. Open, calls are rejected at once, with the remaining
//! delay as `Retry-After`. Half-open, a few calls try whether the upstream is well again. The state
//! diagram is in `circuit_breaker/machine.rs`.
//!
//! **What counts.** An outcome that `handle_if` takes is a failure, and so is a slow one
//! (`slow_call`), also if it was cut off. Any other response is a success, an inner fallback's
//! answer too, until its body breaks off (`circuit_breaker/late.rs`). Neutral, so that the permit
//! goes back and nothing is recorded: what `ignore_if` takes, an inner policy's rejection that
//! `handle_if` does not take, whatever is the client's fault or our own, what nobody asked the
//! upstream for, a call that was cancelled (`circuit_breaker/admission.rs`).
//!
//! **Events.** [`CircuitBreakerEvent`], [`CallEvent::Rejected`].
//!
//! **Composition.** Inside a retry, so that it counts attempts; outside a timeout, so that slow
//! attempts are failures. One breaker named by several routes, and shared by all workers, is one
//! breaker. While the upstream is well, workers do not wait for each other in it:
//! `circuit_breaker/shared.rs`.

mod admission;
mod breaker;
mod late;
mod machine;
mod permit;
mod result;
mod settings;
mod shared;
mod status;
mod trials;
mod window;

pub use status::CircuitStatus;
pub use window::WindowCounts;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use crate::call::Call;
use crate::clock;
use crate::condition::{Asker, ConditionConfig};
use crate::config::{ChangedDefault, ConfigDuration, Problem, Problems};
use crate::error::{ErrorKind, Failure};
use crate::event::{CallEvent, CircuitBreakerEvent, CircuitState, EventKind, Observers};
use crate::key::{KeyConfig, ShownValues};
use crate::keyed::{Keyed, KeyedState, KeysConfig};
use crate::native::Native;
use crate::outcome::Outcome;
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownKeys};
use crate::slot::Slot;
use admission::Admission;
use breaker::{Breaker, BreakerSettings};
use machine::CircuitTransition;
use settings::{CircuitSettings, FailureThreshold, SlowThreshold, SuccessThreshold};
use shared::SharedCircuit;

/// How many results a window may hold.
const MAX_CAPACITY: usize = 100_000;

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
    /// How long it stays open. Default 60 s; 5 s if no threshold is given.
    pub delay: Option<ConfigDuration>,
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
            key: None,
            max_keys: None,
            idle: None,
        }
    }
}

impl PolicyConfig for CircuitBreakerConfig {
    const KIND: &'static str = "circuit-breaker";
    const CHANGED_DEFAULTS: &'static [ChangedDefault] = &[
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

    type Policy = CircuitBreaker;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<CircuitBreaker, Vec<Problem>> {
        let mut problems = Problems::default();
        let thresholds = self.thresholds(&mut problems);
        if let Some(limit) = self.slow_call {
            problems.require_time(limit, "slow_call");
        }
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::ILLNESSES,
            parts,
            &mut problems,
        );
        let ignore_if = ConditionConfig::build(
            self.ignore_if,
            "ignore_if",
            Slot::IgnoreIf,
            Native::NOTHING,
            parts,
            &mut problems,
        );
        let settings = BreakerSettings {
            words: thresholds.to_string(),
            handle_if,
            ignore_if,
            slow_call: self.slow_call.map(|limit| limit.0),
            are_slow_apart: self.slow_call_rate.is_some(),
            retry_after: self.retry_after,
        };
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(&mut problems);
        // Only then has a circuit a size that can be had.
        problems.into_result(())?;
        let circuits = Keyed::new(keys, move || {
            let seed = fastrand::u64(..);
            SharedCircuit::new(CircuitSettings { seed, ..thresholds }, Instant::now())
        });
        Ok(CircuitBreaker(Breaker { name, settings, circuits }.into()))
    }
}

impl CircuitBreakerConfig {
    /// With a threshold, what else is left out is as in failsafe-go.
    fn has_threshold(&self) -> bool {
        self.failure_threshold.is_some() || self.failure_rate.is_some()
    }

    fn thresholds(&self, problems: &mut Problems) -> CircuitSettings {
        let failure = self.failure(problems);
        let success = self.success(problems);
        let (delay, factor) = if self.has_threshold() { (60, 1.0) } else { (5, 2.0) };
        let delay = self.delay.unwrap_or(ConfigDuration::from_secs(delay));
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

/// Stops asking an upstream that keeps failing.
#[derive(Debug)]
pub struct CircuitBreaker(Arc<Breaker>);

/// The words of its states.
const STATES: &[&str] =
    &[CircuitState::Closed.name(), CircuitState::Open.name(), CircuitState::HalfOpen.name()];

impl CircuitBreaker {
    /// Where it stands, and why. With a `key`: the circuit of calls without a value.
    pub fn status(&self) -> CircuitStatus {
        self.0.circuits.one().status(Instant::now())
    }

    /// Moves it by hand. It goes on from there by its own rules: opened by hand, it turns half-open
    /// after its delay. With a `key`: the circuit of calls without a value.
    pub fn force(&self, state: CircuitState, observers: &Observers) {
        self.force_one(self.0.circuits.one(), state, None, observers);
    }

    fn force_one(
        &self,
        circuit: &SharedCircuit,
        state: CircuitState,
        key: Option<Arc<str>>,
        observers: &Observers,
    ) {
        if let Some(transition) = circuit.force(state, Instant::now()) {
            let CircuitTransition { from, to, delay } = transition;
            let changed = CircuitBreakerEvent::StateChanged { from, to, delay, key };
            observers.emit_for_policy(Some(&self.0.name), &changed.into());
        }
    }

    fn show_keys(&self, count: usize) -> Vec<(&'static str, Shown)> {
        let now = Instant::now();
        let (open, half_open) = self.0.circuits.fold((0, 0), |(open, half_open), circuit| {
            match if circuit.is_closed() { CircuitState::Closed } else { circuit.status(now).state }
            {
                CircuitState::Closed => (open, half_open),
                CircuitState::Open => (open + 1, half_open),
                CircuitState::HalfOpen => (open, half_open + 1),
            }
        });
        vec![
            ("keys", Shown::Gauge(count as u64)),
            ("open_keys", Shown::Gauge(open)),
            ("half_open_keys", Shown::Gauge(half_open)),
        ]
    }
}

impl KeyedState for SharedCircuit {
    fn is_at_rest(&self, _: Instant) -> bool {
        self.is_closed()
    }

    fn show(&self, now: Instant) -> Vec<(&'static str, Shown)> {
        let CircuitStatus {
            state,
            counts,
            slow_calls,
            admitted,
            remaining_delay,
            trials,
            openings,
        } = self.status(now);
        vec![
            ("state", Shown::Word { is: state.name(), of: STATES }),
            ("successes", Shown::Count(counts.successes as u64)),
            ("failures", Shown::Count(counts.failures as u64)),
            ("failure_rate", Shown::Rate(counts.failure_rate())),
            ("slow_calls", Shown::Count(slow_calls as u64)),
            ("admitted", Shown::Rate(admitted)),
            ("remaining_delay", Shown::Time(remaining_delay)),
            ("trials", Shown::Count(trials as u64)),
            ("openings", Shown::Count(openings.into())),
        ]
    }
}

impl Policy for CircuitBreaker {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        CircuitBreakerConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        match self.0.circuits.count() {
            None => self.0.circuits.one().show(Instant::now()),
            Some(count) => self.show_keys(count),
        }
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.0.circuits.show()
    }

    fn announces(&self) -> Vec<EventKind> {
        use CircuitState::{Closed, HalfOpen, Open};
        let changes = [(Closed, Open), (Open, HalfOpen), (HalfOpen, Open), (HalfOpen, Closed)];
        let changed = |(from, to)| {
            CircuitBreakerEvent::StateChanged { from, to, delay: None, key: None }.into()
        };
        let rejected = CallEvent::Rejected { kind: ErrorKind::CircuitOpen, retry_after: None };
        let late = CircuitBreakerEvent::FailedLate { kind: ErrorKind::ConnectionTerminated };
        let changes = changes.into_iter().map(changed).chain([rejected.into(), late.into()]);
        changes.chain(self.0.circuits.announces()).collect()
    }

    fn commands(&self) -> &'static [&'static str] {
        &["open", "close", "half-open"]
    }

    fn command(
        &self,
        command: &str,
        key: &[String],
        observers: &Observers,
    ) -> Result<&'static str, String> {
        let state = match command {
            "open" => CircuitState::Open,
            "close" => CircuitState::Closed,
            "half-open" => CircuitState::HalfOpen,
            _ => return Err(format!("it takes no command `{command}`")),
        };
        let circuit = self.0.circuits.named(key)?;
        let mut shown = ShownValues::default();
        key.iter().for_each(|value| shown.push(Some(value.as_bytes())));
        let key = (!key.is_empty()).then(|| shown.into_text().into());
        self.force_one(&circuit, state, key, observers);
        Ok(circuit.status(Instant::now()).state.name())
    }

    fn outline(&self) -> Outline<'_> {
        let settings = &self.0.settings;
        Outline {
            acts: Some(Acts {
                on: &settings.handle_if,
                but_on: Some(&settings.ignore_if),
                never: "nothing can open it",
                result: ActsResult::Counted { slow_calls: settings.slow_call.is_some() },
            }),
            makes: &[Failure::CircuitOpen],
            peeked: settings.handle_if.peeked().max(settings.ignore_if.peeked()),
            ..Outline::passing(&*settings.words)
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let asker = Asker { policy: &self.0.name, scope: next.scope() };
            let mut admission = Admission::of(&self.0, call, next)?;
            let mut outcome = if admission.is_trial() {
                // Boxed to keep the common path's future small.
                Box::pin(admission.attend()).await
            } else {
                admission.run().await
            };
            // Before it is judged: a component's peek is not the upstream's slowness.
            let ended = clock::now();
            let judgement = admission.judge(asker, &mut outcome).await;
            admission.answer(&mut outcome, judgement, ended);
            outcome
        })
    }
}

//! Adaptive throttler: rejects a share of the calls while too many of them fail.
//!
//! **What it protects from.** Sending an upstream more than it can answer, when it says so by
//! failing: the share that is admitted falls to what succeeds, and grows again as soon as it does.
//! Unlike a breaker it never stops asking, so it has no trials and no wrong moment to end them.
//!
//! **What counts.** An outcome that `handle_if` takes is a failure, and any other response a
//! success, until its body breaks off. Nothing that says nothing about the upstream counts: what
//! the client or we are to blame for, inner rejections, calls that were cut off (`blame.rs`).
//!
//! **Events.** [`AdaptiveThrottlerEvent`], [`CallEvent::Rejected`].
//!
//! **Composition.** Inside a retry, which does not repeat what it rejects. One throttler named by
//! several routes, and shared by all workers, is one throttler.

mod machine;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use crate::blame::{self, Blame, CountsLate, HeadBlame};
use crate::boxed::boxed;
use crate::call::{Call, Reporter};
use crate::clock;
use crate::condition::{Asker, Condition, ConditionConfig};
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind, Failure};
use crate::event::{AdaptiveThrottlerEvent, CallEvent, ComponentId, EventKind};
use crate::key::{CallKey, KeyConfig};
use crate::keyed::{HeldState, Keyed, KeyedState, KeysConfig, StateOf};
use crate::native::Native;
use crate::outcome::{Outcome, OutcomeExt};
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownKeys};
use crate::scope::Scope;
use crate::slot::Slot;
use machine::{LONGEST_INTERVAL, ShareChange, ThrottleSettings, ThrottleStatus};
use shared::SharedThrottle;

/// What a rejected client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many results an interval may have to have.
const MAX_MIN_CALLS: u64 = 1_000_000;

/// `kind = "adaptive-throttler"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveThrottlerConfig {
    /// Which outcomes are failures. Default: 429, 5xx except 501, failures of the upstream.
    pub handle_if: Option<ConditionConfig>,
    /// The share of failures that is tolerated, above 0 and up to 0.9. Default 0.1.
    pub failure_rate: f64,
    /// So many results an interval has at least, unless it lasts for 10 s. Default 10.
    pub min_calls: u64,
    /// So long an interval lasts at least, 1 ms to 10 s. Default 1 s.
    pub interval: ConfigDuration,
    /// By which calls are told apart; each value has a share of its own. Default: none.
    pub key: Option<KeyConfig>,
    /// So many keys, up to 1,000,000. Default 10,000.
    pub max_keys: Option<usize>,
    /// For so long a key that is not used is remembered. Default 10 min.
    pub idle: Option<ConfigDuration>,
    /// The share of calls that is rejected at most, above 0 and up to 0.99: the rest finds out when
    /// the upstream is well again. Default 0.9.
    pub max_rejection_rate: f64,
}

impl Default for AdaptiveThrottlerConfig {
    fn default() -> Self {
        Self {
            handle_if: None,
            failure_rate: 0.1,
            min_calls: 10,
            interval: ConfigDuration::from_secs(1),
            max_rejection_rate: 0.9,
            key: None,
            max_keys: None,
            idle: None,
        }
    }
}

impl PolicyConfig for AdaptiveThrottlerConfig {
    const KIND: &'static str = "adaptive-throttler";

    type Policy = AdaptiveThrottler;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<AdaptiveThrottler, Vec<Problem>> {
        let mut problems = Problems::default();
        let mut require_share = |share: f64, most: f64, key: &str| {
            problems.require(share > 0.0 && share <= most, key, || {
                format!("must be above 0 and at most {most}, is {share}")
            });
        };
        require_share(self.failure_rate, 0.9, "failure_rate");
        require_share(self.max_rejection_rate, 0.99, "max_rejection_rate");
        problems.require_within(self.min_calls, 1..=MAX_MIN_CALLS, "min_calls");
        let bounds = ConfigDuration::SHORTEST..=ConfigDuration(LONGEST_INTERVAL);
        problems.require_within(self.interval, bounds, "interval");
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::FAILURES,
            parts,
            &mut problems,
        );
        let settings = ThrottleSettings {
            failure_rate: self.failure_rate,
            min_calls: self.min_calls,
            interval: self.interval.0,
            max_rejection_rate: self.max_rejection_rate,
        };
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(parts, &mut problems);
        problems.into_result(())?;
        let states = Keyed::new(keys, move || SharedThrottle::new(settings, Instant::now()));
        Ok(AdaptiveThrottler(Throttler { name, handle_if, states }.into()))
    }
}

/// Rejects a share of the calls while too many of them fail.
#[derive(Debug)]
pub struct AdaptiveThrottler(Arc<Throttler>);

/// A throttler as bodies under way know it.
#[derive(Debug)]
struct Throttler {
    name: Arc<str>,
    handle_if: Condition,
    states: Keyed<SharedThrottle>,
}

impl AdaptiveThrottler {
    /// The share of calls that is admitted, of those without a key.
    pub fn admitted(&self) -> f64 {
        self.0.states.one().status(Instant::now()).share
    }

    fn admit(&self, call: &Call, scope: &Scope<'_>) -> Result<StateOf<'_, SharedThrottle>, Error> {
        let Throttler { name, states, .. } = &*self.0;
        let shared = states.of(call, Asker { policy: name, scope });
        let level = scope.level(call);
        let (admitted, change) = shared.admit(level, || call.random().fraction(), clock::now());
        if let Some(change) = change {
            call.emit(name, change);
        }
        if admitted {
            return Ok(shared);
        }
        let (kind, retry_after) = (ErrorKind::Overloaded, Some(RETRY_AFTER));
        call.emit(name, CallEvent::Rejected { kind, retry_after });
        Err(Error::new(kind).with_retry_after(retry_after))
    }

    fn record(
        &self,
        shared: &StateOf<'_, SharedThrottle>,
        call: &Call,
        outcome: &mut Outcome,
        blame: HeadBlame,
        now: Instant,
    ) {
        let (failed, by) = match blame::follow(&self.0, || shared.to_held(), call, outcome, blame) {
            Blame::Nothing => return,
            Blame::Success => (false, None),
            Blame::Failure(by) => (true, by),
        };
        if let Some(change) = shared.record(failed, now) {
            call.emit_about(outcome.attempt(), &self.0.name, by.as_ref(), change);
        }
    }
}

impl Policy for AdaptiveThrottler {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        AdaptiveThrottlerConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let (states, now) = (&self.0.states, Instant::now());
        let Some(keys) = states.count() else {
            let ThrottleStatus { share, results } = states.one().status(now);
            return vec![
                (
                    "admitted",
                    Shown::RateGauge(
                        share,
                        "Share of calls that an adaptive throttler admits, 0 to 1",
                    ),
                ),
                ("results", Shown::Count(results.all)),
                ("failures", Shown::Count(results.failed)),
            ];
        };
        let rejecting =
            states.fold(0, |count, state| count + u64::from(state.status(now).share < 1.0));
        vec![
            (
                "rejecting",
                Shown::Gauge(
                    rejecting,
                    "Keys of which an adaptive throttler does not admit all calls",
                ),
            ),
            (
                "keys",
                Shown::Gauge(
                    keys as u64,
                    "Keys that have a share of their own in an adaptive throttler",
                ),
            ),
        ]
    }

    fn key(&self) -> Option<&CallKey> {
        self.0.states.key()
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.0.states.show()
    }

    fn announces(&self) -> Vec<EventKind> {
        let kind = ErrorKind::Overloaded;
        let rejected = CallEvent::Rejected { kind, retry_after: Some(RETRY_AFTER) };
        [rejected.into()].into_iter().chain(self.0.states.announces()).collect()
    }

    fn outline(&self) -> Outline<'_> {
        Outline {
            acts: Some(Acts {
                on: &self.0.handle_if,
                but_on: None,
                never: "it never rejects",
                result: ActsResult::Counted { slow_calls: true, by_endpoint: false },
            }),
            makes: &[Failure::Overloaded],
            peeked: self.0.handle_if.peeked(),
            ..Outline::passing(format!("rejects while too many calls are {}", self.0.handle_if))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            self.0.states.turn(call).await;
            let shared = self.admit(call, next.scope())?;
            let asker = Asker { policy: &self.0.name, scope: next.scope() };
            let mut outcome = next.run(call).await;
            let blame = blame::judge(&self.0.handle_if, call, asker, &mut outcome).await;
            self.record(&shared, call, &mut outcome, blame, clock::now());
            outcome
        })
    }
}

impl CountsLate for Throttler {
    /// `None`: there is one for all calls.
    type Held = Option<HeldState<SharedThrottle>>;

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn handle_if(&self) -> &Condition {
        &self.handle_if
    }

    fn count_late(
        &self,
        held: &Self::Held,
        failed: bool,
        by: Option<&ComponentId>,
        attempt: u32,
        reporter: &Reporter,
    ) {
        let Some(shared) = held.as_ref().map(HeldState::state).or(self.states.only()) else {
            return;
        };
        if let Some(change) = shared.record(failed, clock::now()) {
            reporter.emit_about(attempt, &self.name, by, change);
        }
    }
}

impl KeyedState for SharedThrottle {
    fn is_at_rest(&self, now: Instant) -> bool {
        self.status(now).share >= 1.0
    }

    fn show(&self, now: Instant) -> Vec<(&'static str, Shown)> {
        let ThrottleStatus { share, results } = self.status(now);
        vec![
            ("admitted", Shown::Rate(share)),
            ("results", Shown::Count(results.all)),
            ("failures", Shown::Count(results.failed)),
        ]
    }
}

impl From<ShareChange> for EventKind {
    fn from(ShareChange { from, to }: ShareChange) -> Self {
        AdaptiveThrottlerEvent::ShareChanged { from, to }.into()
    }
}

//! Hedge: asks once more beside an attempt that takes long, and takes the first good answer.
//!
//! **What it protects from.** The slow tail: an upstream that answers nearly always fast, and now
//! and then slowly, by a pause or a full queue on one of its servers. A second request rarely meets
//! the same. It is of no use, and costs load, where everything is slow.
//!
//! **When.** The next attempt starts once the upstream has been asked for `delay`, or for what most
//! first attempts keep to (`delay_quantile`); or at once if all that are under way have failed.
//! Time that is ours, such as a queue or an inner retry's delay, does not count.
//!
//! **Who wins.** The first outcome that `handle_if` does not take, or that `cancel_if` takes. The
//! others are dropped before it goes out. If none wins, the best that there is goes out: a response
//! before an error, the upstream's error before our own.
//!
//! **What is hedged.** Requests that may come to the upstream twice, as for a retry, whose body is
//! there whole and kept: it is waited for before the first attempt. A stream of gRPC's messages is
//! not, beyond the first of them (`client_waits.rs`): it has to be whole when the next attempt is
//! due. A [`Budget`](crate::Budget) bounds the load.
//!
//! **Events.** [`HedgeEvent`].
//!
//! **Composition.** Outside a timeout and a breaker, so that each attempt has its own limit and
//! permit; inside a retry.

mod delay;
mod latencies;
mod race;
mod rules;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use super::extra_budget::ExtraBudget;
use super::methods::Methods;
use crate::boxed::boxed;
use crate::branch::Branch;
use crate::call::Call;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::{Asker, ConditionConfig};
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind};
use crate::event::{AttemptOutcome, EventKind, HedgeEvent, NoHedge};
use crate::native::Native;
use crate::outcome::{Outcome, OutcomeExt};
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown};
use crate::slot::Slot;
use delay::{HedgeDelay, Quantile};
use race::{First, Race};
use rules::{HedgeRules, Standing};

/// More would be a flood, not a hedge.
const MAX_HEDGES: u32 = 10;
const MAX_MIN_CALLS: usize = 100_000;

/// `kind = "hedge"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeConfig {
    /// Which outcomes do not win. Default: 429, 5xx except 501, failures of the upstream.
    pub handle_if: Option<ConditionConfig>,
    /// Which of those win all the same. Default: none.
    pub cancel_if: Option<ConditionConfig>,
    /// For so long the upstream is asked before the next attempt starts.
    pub delay: Option<ConfigDuration>,
    /// Or for as long as most first attempts take.
    pub delay_quantile: Option<DelayQuantileConfig>,
    /// Attempts beside the first one, 1 to 10. Default 1.
    pub max_hedges: u32,
    /// Methods that are safe to repeat; `["*"]` for all. Default: as a retry's.
    pub methods: Vec<String>,
    /// The name of a `[budgets.NAME]`; `"none"` goes without. Default: the upstream's own.
    pub budget: Option<String>,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            handle_if: None,
            cancel_if: None,
            delay: None,
            delay_quantile: None,
            max_hedges: 1,
            methods: Methods::idempotent(),
            budget: None,
        }
    }
}

/// A delay that most first attempts keep to.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct DelayQuantileConfig {
    /// This part of them, above 0 and below 1. Default 0.95.
    pub quantile: f64,
    /// There is no hedge while fewer are known, 1 to 100,000. Default 20.
    pub min_calls: usize,
    /// Of those that ended within this time, 1 s to 1 h. Default 30 s.
    pub window: ConfigDuration,
}

impl Default for DelayQuantileConfig {
    fn default() -> Self {
        Self { quantile: 0.95, min_calls: 20, window: ConfigDuration::from_secs(30) }
    }
}

impl DelayQuantileConfig {
    fn build(self, problems: &mut Problems) -> Quantile {
        let Self { quantile, min_calls, window } = self;
        problems.require(quantile > 0.0 && quantile < 1.0, "delay_quantile.quantile", || {
            format!("must be above 0 and below 1, is {quantile}")
        });
        problems.require_within(min_calls, 1..=MAX_MIN_CALLS, "delay_quantile.min_calls");
        let bounds = ConfigDuration::from_secs(1)..=ConfigDuration::from_secs(3600);
        problems.require_within(window, bounds, "delay_quantile.window");
        Quantile::new(quantile, min_calls, window.0, Instant::now())
    }
}

impl HedgeConfig {
    fn delay(
        delay: Option<ConfigDuration>,
        quantile: Option<DelayQuantileConfig>,
        problems: &mut Problems,
    ) -> HedgeDelay {
        if let Some(delay) = delay {
            problems.require_time(delay, "delay");
        }
        match (delay, quantile) {
            (Some(_), Some(_)) => problems.add("delay", "either a `delay` or a `delay_quantile`"),
            (None, None) => problems.add("delay", "missing key; either it or `delay_quantile`"),
            (None, Some(quantile)) => return HedgeDelay::Quantile(quantile.build(problems)),
            (Some(_), None) => {}
        }
        HedgeDelay::Fixed(delay.unwrap_or(ConfigDuration::SHORTEST).0)
    }
}

impl PolicyConfig for HedgeConfig {
    const KIND: &'static str = "hedge";

    type Policy = Hedge;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<Hedge, Vec<Problem>> {
        let mut problems = Problems::default();
        let delay = Self::delay(self.delay, self.delay_quantile, &mut problems);
        problems.require_within(self.max_hedges, 1..=MAX_HEDGES, "max_hedges");
        let mut condition = |config, key: &str, slot, default| {
            ConditionConfig::build(config, key, slot, default, parts, &mut problems)
        };
        let handle_if = condition(self.handle_if, "handle_if", Slot::HandleIf, Native::FAILURES);
        let cancel_if = condition(self.cancel_if, "cancel_if", Slot::CancelIf, Native::NOTHING);
        let methods = Methods::build(&self.methods, &mut problems);
        let budget = ExtraBudget::build(self.budget.as_deref(), parts, &mut problems);
        let rules = HedgeRules {
            name,
            handle_if,
            cancel_if,
            max_hedges: self.max_hedges,
            methods,
            budget,
            racing: AtomicUsize::new(0),
        };
        problems.into_result(Hedge { rules, delay, client_waits: ClientWaits::default() })
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.require(!ExtraBudget::is_none(self.budget.as_deref()), "budget", || {
            "without one, a slow upstream gets twice its load and more; leave the key out for the \
             upstream's own"
                .into()
        });
        problems.require(!Methods::change_something(&self.methods), "methods", || {
            "has some that may change something each time they are carried out, here twice at the \
             same time; without them, those that carry an `Idempotency-Key` are hedged"
                .into()
        });
        problems.require(!self.methods.is_empty(), "methods", || {
            "an empty list: only what has an `Idempotency-Key` is hedged".into()
        });
        problems.into_result(()).err().unwrap_or_default()
    }
}

/// Asks once more beside an attempt that takes long.
#[derive(Debug)]
pub struct Hedge {
    rules: HedgeRules,
    delay: HedgeDelay,
    client_waits: ClientWaits,
}

impl Hedge {
    /// Waits for the body, so that a slow client's attempts are not taken for slow ones, and hedges
    /// don't wait for it in turn. Whether all of it is kept, as far as it has come.
    async fn gather(&self, call: &Call) -> Result<bool, Error> {
        self.client_waits.gather(call).await?;
        let body = call.body();
        // What is gathered and has not come is longer than what may be kept.
        let is_kept = body.can_repeat() && (body.has_come() || !body.is_gathered());
        if !is_kept {
            let reason = if body.is_squeezed() { NoHedge::Memory } else { NoHedge::Body };
            call.emit(&self.rules.name, HedgeEvent::Skipped { reason });
        }
        Ok(is_kept)
    }
}

/// How long the first attempt takes, until this is dropped.
struct Sample<'a> {
    quantile: Option<&'a Quantile>,
    call: &'a Call,
    branch: &'a Branch<'a>,
    /// The attempt whose response is good.
    good: u32,
}

impl Drop for Sample<'_> {
    /// Failures tell nothing of how long an answer takes, unless they are late.
    fn drop(&mut self) {
        let Some(quantile) = self.quantile else { return };
        let Some(first) = self.call.past(self.branch.first_attempt()) else { return };
        let is_cut = match first.outcome {
            AttemptOutcome::Cancelled | AttemptOutcome::Failure(ErrorKind::Timeout) => true,
            AttemptOutcome::Response(_) if self.good == first.provenance.attempt => false,
            AttemptOutcome::Response(_) | AttemptOutcome::Failure(_) => return,
        };
        quantile.record(first.asked, is_cut, clock::now());
    }
}

impl Policy for Hedge {
    fn name(&self) -> &Arc<str> {
        &self.rules.name
    }

    fn kind(&self) -> &'static str {
        HedgeConfig::KIND
    }

    fn repeats(&self) -> bool {
        true
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let racing = self.rules.racing.load(Ordering::Relaxed);
        let mut shown = vec![
            ("racing", Shown::Gauge(racing as u64, "Calls that have a hedge under way")),
            (
                "waiting_for_clients",
                Shown::Gauge(
                    self.client_waits.count() as u64,
                    "Calls of a hedge that wait for their client's request body",
                ),
            ),
        ];
        if let Some(delay) = self.delay.at(Instant::now()) {
            shown.push(("delay", Shown::Time(delay)));
        }
        shown
    }

    fn announces(&self) -> Vec<EventKind> {
        let skipped = NoHedge::ALL.map(|reason| HedgeEvent::Skipped { reason }.into());
        let mut events = vec![
            HedgeEvent::Launched { hedge: 1, asked: Duration::ZERO }.into(),
            HedgeEvent::Won { hedge: 1 }.into(),
            HedgeEvent::Cancelled { hedge: 0 }.into(),
        ];
        events.extend(skipped);
        events
    }

    fn outline(&self) -> Outline<'_> {
        let HedgeRules { handle_if, cancel_if, max_hedges, .. } = &self.rules;
        let hedges =
            if *max_hedges == 1 { "one more".into() } else { format!("{max_hedges} more") };
        Outline {
            runs: Some(u64::from(*max_hedges) + 1),
            runs_key: "max_hedges",
            runs_again: self.delay.fixed().map(|delay| ("delay", delay)),
            waits_for_clients: true,
            peeked: handle_if.peeked().max(cancel_if.peeked()),
            ..Outline::passing(format!("{hedges} beside, after {}", self.delay))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let rules = &self.rules;
            let in_budget = rules
                .budget
                .of(next.scope())
                .and_then(|budget| budget.enter(next.scope().budgeted(), clock::now()));
            // What can't be hedged need not be waited for.
            let is_waited_for = !call.body().is_empty() && rules.may_repeat(call);
            let is_barred = is_waited_for && !Box::pin(self.gather(call)).await?;
            let branch = Branch::within(next.scope().branch());
            let scope = next.scope().budgeted_by(in_budget.as_ref()).branching(&branch);
            let asker = Asker { policy: &rules.name, scope: next.scope() };
            let quantile = self.delay.quantile();
            let mut sample = Sample { quantile, call, branch: &branch, good: 0 };
            // Dropped before the sample, which looks at how it has ended.
            let mut run = next.within(&scope).run(call);
            let delay = if is_barred { None } else { self.delay.at(clock::now()) };
            let ended = match delay {
                None => Ok(run.as_mut().await),
                Some(delay) => call.timeout(delay, &mut run).await,
            };
            let first = match ended {
                Ok(mut outcome) => {
                    let standing = rules.judge(call, asker, &mut outcome).await;
                    if standing == Standing::Wins {
                        sample.good = outcome.attempt();
                    }
                    match standing {
                        Standing::Failed if delay.is_some() => First::Failed(outcome),
                        _ => return outcome,
                    }
                }
                Err(_) => First::Running(run),
            };
            let delay = delay.unwrap_or_default();
            // Boxed to keep the common path's future small.
            let race = Race { rules, call, next, asker, scope: &scope, delay };
            let (outcome, winner) = Box::pin(race.run(first, &branch)).await;
            if winner == Some(0) {
                sample.good = outcome.attempt();
            }
            outcome
        })
    }
}

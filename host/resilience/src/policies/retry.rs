//! Retry: asks again after a failure, later.
//!
//! **What it protects from.** Failures that pass: a restart, a lost connection, a moment of
//! overload. It makes overload worse when many retry at once; a [`Budget`](crate::Budget) bounds
//! that, the upstream's own if the policy names none, and a circuit breaker inside ends it.
//!
//! **What is retried.** An outcome that `handle_if` takes and `abort_if` does not, if sending the
//! request again is safe: the method is among `methods`, or the request carries `Idempotency-Key`,
//! or it certainly never reached the upstream; and its body was kept whole. Whatever cannot be
//! repeated goes out as it came, with an event.
//!
//! **When.** After the policy's own delay (fixed, growing or random, with jitter), and never before
//! the time that was asked for: by the upstream's `Retry-After` on a 429 or 503, or by an open
//! circuit breaker inside, on which no attempts are burnt. A wait that is longer than the policy
//! may wait, or that would end past the deadline, is not begun: what there is goes out at once.
//!
//! **Events.** [`RetryEvent`].
//!
//! **Composition.** Outside a breaker, so that each attempt is counted by it; outside a timeout, so
//! that each attempt has its own limit. Inside a fallback, which then sees what the last attempt
//! came to.

mod backoff;
mod config;

pub use backoff::{BackoffConfig, JitterConfig, RandomDelayConfig};
pub use config::RetryConfig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time;

use super::extra_budget::ExtraBudget;
use super::methods::Methods;
use super::waiting::Waiting;
use crate::boxed::boxed;
use crate::call::Call;
use crate::clock;
use crate::condition::{Asker, Condition, ConditionConfig};
use crate::config::{ChangedDefault, ConfigDuration, Problem, Problems};
use crate::delay::{ComponentDelay, DelayConfig};
use crate::delayer::DelayDecision;
use crate::error::{Error, ErrorKind, Failure, Reached};
use crate::event::{ComponentId, EventKind, NoRetry, RetryEvent};
use crate::layers;
use crate::native::Native;
use crate::outcome::{Outcome, OutcomeExt};
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown};
use crate::predicate::Verdict;
use crate::retry_after::{Pushback, pushback_elsewhere, requested_delay};
use crate::scope::Scope;
use crate::slot::Slot;
use backoff::{Delays, Jitter};
use config::{CHANGED_DEFAULTS, MAX_RETRIES};

/// A backoff has grown to its longest delay, or as good as, after so many.
const GROWING: u32 = 64;
impl PolicyConfig for RetryConfig {
    const KIND: &'static str = "retry";
    const CHANGED_DEFAULTS: &'static [ChangedDefault] = CHANGED_DEFAULTS;

    type Policy = Retry;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<Retry, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require((-1..=MAX_RETRIES).contains(&self.max_retries), "max_retries", || {
            format!("must be from 0 to {MAX_RETRIES}, or -1 for unlimited, is {}", self.max_retries)
        });
        if let Some(limit) = self.max_duration {
            problems.require_time(limit, "max_duration");
        }
        problems.require_time_or_zero(self.max_retry_after, "max_retry_after");
        let delay = DelayConfig::own(self.delay.as_ref());
        let delays = Delays::build(delay, self.backoff, self.random_delay, &mut problems);
        let jitter = match self.jitter {
            Some(jitter) => jitter.build(&mut problems),
            None => Jitter::default_of(delays),
        };
        let component_delay = DelayConfig::build(self.delay, parts, &mut problems);
        let budget = ExtraBudget::build(self.budget.as_deref(), parts, &mut problems);
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::FAILURES,
            parts,
            &mut problems,
        );
        let abort_if = ConditionConfig::build(
            self.abort_if,
            "abort_if",
            Slot::AbortIf,
            Native::NOTHING,
            parts,
            &mut problems,
        );
        let methods = Methods::build(&self.methods, &mut problems);
        problems.into_result(Retry {
            name,
            handle_if,
            abort_if,
            max_retries: u32::try_from(self.max_retries).ok(),
            delays,
            jitter,
            retry_after: self.retry_after,
            max_retry_after: self.max_retry_after.0,
            max_duration: self.max_duration.map(|limit| limit.0),
            return_last_failure: self.return_last_failure,
            methods,
            retry_retried: self.retry_retried,
            budget,
            delay: component_delay,
            waiting: AtomicUsize::new(0),
        })
    }

    fn warnings(&self) -> Vec<Problem> {
        self.remarks()
    }
}

/// Asks again after a failure, later.
#[derive(Debug)]
pub struct Retry {
    name: Arc<str>,
    handle_if: Condition,
    abort_if: Condition,
    /// None: unlimited.
    max_retries: Option<u32>,
    delays: Delays,
    jitter: Jitter,
    retry_after: bool,
    max_retry_after: Duration,
    max_duration: Option<Duration>,
    return_last_failure: bool,
    methods: Methods,
    retry_retried: bool,
    budget: ExtraBudget,
    /// Who may say how long to wait.
    delay: Option<ComponentDelay>,
    /// Calls that wait for their next attempt.
    waiting: AtomicUsize,
}

/// How long to wait, and which component says so, if one does.
struct RetryWait {
    time: Duration,
    by: Option<ComponentId>,
}

/// Why not to wait, and which component says so, if one does.
struct NoWait {
    reason: NoRetry,
    by: Option<ComponentId>,
}

impl From<NoRetry> for NoWait {
    fn from(reason: NoRetry) -> Self {
        Self { reason, by: None }
    }
}

impl Retry {
    fn is_exhausted(&self, call: &Call, retries: u32) -> bool {
        self.max_retries.is_some_and(|max| retries >= max)
            || self.max_duration.is_some_and(|max| call.elapsed() > max)
    }

    /// Whether sending the request again is safe, possible, and nobody else's business.
    fn may_repeat(&self, call: &Call, scope: &Scope<'_>, outcome: &Outcome) -> Result<(), NoRetry> {
        let untouched =
            outcome.as_ref().is_err_and(|error| error.reached_upstream() == Reached::No);
        if !(untouched
            || self.methods.contains(&call.head().method)
            || call.request().has_idempotency_key())
        {
            return Err(NoRetry::Method);
        }
        let body = call.body();
        if !body.can_repeat() {
            return Err(if body.is_squeezed() { NoRetry::Memory } else { NoRetry::Body });
        }
        // Who repeats it elsewhere has not asked an endpoint that is still to be tried. It gets the
        // mark, so that nothing multiplies.
        if !self.retry_retried
            && layers::retries_elsewhere(call, outcome)
            && !scope.upstream().has_untried(call)
        {
            return Err(NoRetry::Retried);
        }
        Ok(())
    }

    /// How long to wait before the retry of this number, or why not to. `step` counts the delays of
    /// the policy's own sequence, which a wait that was asked for does not advance.
    fn wait(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
        retry: u32,
        step: &mut u32,
    ) -> Result<RetryWait, NoWait> {
        let chance = || call.random().fraction();
        let left = self.max_duration.map(|max| max.saturating_sub(call.elapsed()));
        let own = self.jitter.spread(self.delays.delay(*step, chance()), chance());
        let own = left.map_or(own, |left| own.min(left));
        let is_too_long =
            |wait| wait > self.max_retry_after || left.is_some_and(|left| wait > left);
        let asked = self.asked(call, asker.scope, outcome)?;
        if let Some((_, reason)) = asked.filter(|(asked, _)| is_too_long(*asked)) {
            return Err(reason.into());
        }
        let asked = asked.map(|(asked, _)| asked);
        let (base, by) = match self.component_says(call, asker, outcome, own, retry) {
            DelayDecision::Own => {
                *step += u32::from(asked.is_none());
                (own, None)
            }
            DelayDecision::Wait { time, by } if !is_too_long(time) => (time, Some(by)),
            DelayDecision::Wait { by, .. } | DelayDecision::GiveUp { by } => {
                return Err(NoWait { reason: NoRetry::Component, by: Some(by) });
            }
        };
        let (shortest, wish) = match asked {
            None => (base, base),
            Some(asked) => (base.max(asked), base.max(self.jitter.lengthen(asked, chance()))),
        };
        let deadline = asker.scope.deadline(call);
        let ends_in_time = |wait: Duration| {
            deadline.is_none_or(|end| wait < end.saturating_duration_since(clock::now()))
        };
        if !ends_in_time(shortest) {
            return Err(NoWait { reason: NoRetry::Deadline, by });
        }
        // What is added to a wait that was asked for is only a wish.
        let fits = ends_in_time(wish) && left.is_none_or(|left| wish <= left);
        Ok(RetryWait { time: if fits { wish } else { shortest }, by })
    }

    /// Decides when the retry of this number is made, or why it is not, and tells it. `by` is the
    /// component that took the outcome for a failure.
    #[expect(clippy::too_many_arguments, reason = "the state of a loop that must stay small")]
    fn schedule(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
        retry: u32,
        step: &mut u32,
        by: Option<ComponentId>,
        take_extra: impl FnOnce() -> bool,
    ) -> Result<Duration, NoRetry> {
        let (scheduled, decided_by) = match self.wait(call, asker, outcome, retry, step) {
            Ok(RetryWait { time, by }) if take_extra() => (Ok(time), by),
            Ok(_) => (Err(NoRetry::Budget), None),
            Err(NoWait { reason, by }) => (Err(reason), by),
        };
        let event = match scheduled {
            Ok(delay) => RetryEvent::Scheduled { retry, delay },
            Err(reason) => RetryEvent::Skipped { reason },
        };
        self.tell(call, outcome.attempt(), decided_by.or(by).as_ref(), event);
        scheduled
    }

    fn component_says(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
        own: Duration,
        retry: u32,
    ) -> DelayDecision {
        let Some(delay) = &self.delay else { return DelayDecision::Own };
        let deadline = asker.scope.deadline(call);
        delay.after(call, asker.policy, deadline, outcome, own, retry)
    }

    /// The wait that the upstream or an open breaker asks for, not 0, and what to say if it is too
    /// long.
    fn asked(
        &self,
        call: &Call,
        scope: &Scope<'_>,
        outcome: &Outcome,
    ) -> Result<Option<(Duration, NoRetry)>, NoRetry> {
        if let Err(error) = outcome {
            let too_long = match error.kind() {
                ErrorKind::CircuitOpen => NoRetry::CircuitOpen,
                _ => NoRetry::RetryAfter,
            };
            let wait = error.retry_after().filter(|wait| !wait.is_zero());
            return Ok(wait.map(|wait| (wait, too_long)));
        }
        let asks = || pushback_elsewhere(call, outcome, scope.upstream());
        match self.retry_after.then(asks).flatten() {
            None => Ok(None),
            Some(Pushback::Wait(wait)) => Ok(Some((wait, NoRetry::RetryAfter))),
            Some(Pushback::Stop) => Err(NoRetry::Upstream),
        }
    }

    /// How long all waits take at most.
    fn waits(&self, are_asked_for: bool) -> Duration {
        let asked = if are_asked_for { self.max_retry_after } else { Duration::ZERO };
        let asked = self.jitter.lengthen(asked, 1.0);
        let longest = |step| self.jitter.longest(self.delays.delay(step, 1.0)).max(asked);
        let retries = self.max_retries.unwrap_or(1);
        // From there on they are as long as the longest.
        let growing = retries.min(GROWING);
        let sum = (0..growing).map(longest).fold(Duration::ZERO, Duration::saturating_add);
        sum.saturating_add(longest(GROWING).saturating_mul(retries - growing))
    }

    /// When the first retry begins at the earliest, unless a component may say so.
    fn runs_again(&self) -> Option<(&'static str, Duration)> {
        let (key, first) = self.delays.first();
        let shortest = self.jitter.shortest(first);
        let is_known = self.delay.is_none() && self.max_retries != Some(0);
        is_known.then(|| (key, self.max_duration.map_or(shortest, |most| shortest.min(most))))
    }

    async fn sleep(&self, delay: Duration) {
        let _waiting = Waiting::begin(&self.waiting);
        time::sleep(delay).await;
    }

    fn tell(&self, call: &Call, attempt: u32, by: Option<&ComponentId>, event: RetryEvent) {
        call.emit_about(attempt, &self.name, by, event);
    }

    /// What goes out where no further retry is made for this reason.
    fn not_scheduled(&self, call: &Call, reason: NoRetry, outcome: Outcome) -> Outcome {
        if reason == NoRetry::Budget && !self.return_last_failure {
            let error = Error::new(ErrorKind::BudgetExceeded).of_attempt(outcome.attempt());
            return Err(error.with_behind(outcome.last_word()));
        }
        let is_rejection = outcome.error_kind().is_some_and(ErrorKind::is_rejection);
        if is_rejection { outcome } else { self.give_up(call, outcome) }
    }

    fn give_up(&self, call: &Call, outcome: Outcome) -> Outcome {
        if self.return_last_failure {
            return outcome;
        }
        let error = Error::new(ErrorKind::RetriesExceeded)
            .of_attempt(outcome.attempt())
            .with_behind(outcome.last_word());
        let retry_after = requested_delay(call, &outcome);
        Err(match outcome {
            Ok(_) => error.with_retry_after(retry_after),
            Err(last) => error.caused_by(last),
        })
    }
}

impl Policy for Retry {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        RetryConfig::KIND
    }

    fn repeats(&self) -> bool {
        true
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        vec![(
            "waiting",
            Shown::Gauge(
                self.waiting.load(Ordering::Relaxed) as u64,
                "Calls that wait for their next attempt",
            ),
        )]
    }

    fn announces(&self) -> Vec<EventKind> {
        let skipped = NoRetry::ALL.map(|reason| RetryEvent::Skipped { reason }.into());
        let mut events = vec![
            RetryEvent::Scheduled { retry: 1, delay: Duration::ZERO }.into(),
            RetryEvent::Exhausted { retries: 0 }.into(),
            RetryEvent::Aborted.into(),
        ];
        events.extend(skipped);
        events
    }

    fn outline(&self) -> Outline<'_> {
        let first = self.jitter.longest(self.delays.delay(0, 1.0));
        let last = self.jitter.longest(self.delays.longest());
        let retries = match self.max_retries {
            Some(retries) => retries.to_string(),
            None => "unlimited".into(),
        };
        let delays = match (ConfigDuration(first), ConfigDuration(last)) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        let result = if self.return_last_failure { ActsResult::Same } else { ActsResult::Failure };
        let delay = self.delay.as_ref();
        let says = delay.map_or(String::new(), ToString::to_string);
        let peeked = self.handle_if.peeked().max(self.abort_if.peeked());
        Outline {
            acts: Some(Acts {
                on: &self.handle_if,
                but_on: Some(&self.abort_if),
                never: "it never retries",
                result,
            }),
            runs: self.max_retries.map(|retries| u64::from(retries) + 1),
            last_run: self.max_duration,
            runs_again: self.runs_again(),
            waits: self.waits(self.retry_after || self.delay.is_some()),
            waits_for_breaker: self.waits(true),
            makes: if self.return_last_failure {
                &[]
            } else {
                &[Failure::RetriesExceeded, Failure::BudgetExceeded]
            },
            peeked: peeked.max(delay.map_or(0, ComponentDelay::peeked)),
            ..Outline::passing(format!(
                "{retries} retries of {}, after {delays}{says}",
                self.handle_if
            ))
        }
    }

    /// Dropped between two attempts, nothing is held but the call's share of the budget, which its
    /// guards give back.
    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let asker = Asker { policy: &self.name, scope: next.scope() };
            let in_budget = self
                .budget
                .of(next.scope())
                .and_then(|budget| budget.enter(next.scope().budgeted(), clock::now()));
            let mut scope = next.scope().budgeted_by(in_budget.as_ref());
            let mut extra = None;
            let mut retries = 0;
            let mut step = 0;
            let mut behind = None;
            let outcome = loop {
                let run = next.within(&scope).run(call);
                // Boxed to keep the common path's future small.
                let mut outcome = match &extra {
                    None => run.await,
                    Some(_) => Box::pin(call.attend(run, || extra = None)).await,
                };
                let Verdict::Handled(by) = self.handle_if.takes(call, asker, &mut outcome).await
                else {
                    break outcome;
                };
                if let Ok(response) = &mut outcome {
                    response.give_up();
                }
                let attempt = outcome.attempt();
                if let Verdict::Handled(by) = self.abort_if.takes(call, asker, &mut outcome).await {
                    self.tell(call, attempt, by.as_ref(), RetryEvent::Aborted);
                    break outcome;
                }
                if self.is_exhausted(call, retries) {
                    self.tell(call, attempt, by.as_ref(), RetryEvent::Exhausted { retries });
                    break self.give_up(call, outcome);
                }
                if let Err(reason) = self.may_repeat(call, &scope, &outcome) {
                    self.tell(call, attempt, by.as_ref(), RetryEvent::Skipped { reason });
                    break outcome;
                }
                if let Some(delay) = &self.delay {
                    // Boxed to keep the common path's future small.
                    Box::pin(delay.prepare(call, &mut outcome)).await;
                }
                let take_extra = || {
                    let Some(budget) = self.budget.of(next.scope()) else { return true };
                    // Before the next: the one that has just failed is over.
                    drop(extra.take());
                    extra = budget.try_extra(clock::now());
                    extra.is_some()
                };
                let retry = retries + 1;
                let scheduled =
                    self.schedule(call, asker, &outcome, retry, &mut step, by, take_extra);
                let delay = match scheduled {
                    Ok(delay) => delay,
                    Err(reason) => break self.not_scheduled(call, reason, outcome),
                };
                retries = retry;
                behind = outcome.last_word().or(behind);
                // Before the wait: its connection goes back, and so do the guards that its body
                // holds.
                call.discard(outcome);
                if !delay.is_zero() {
                    // Boxed to keep the common path's future small.
                    Box::pin(self.sleep(delay)).await;
                }
                scope = scope.run_again(call, &self.name, retries);
            };
            // What it turns away, or is turned away with, is not all that came of the call.
            outcome.map_err(|error| error.with_behind(behind))
        })
    }
}

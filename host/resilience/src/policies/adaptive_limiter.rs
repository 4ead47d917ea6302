//! Adaptive limiter: lets as many calls go on at once as the upstream has use for, and finds out
//! how many that is.
//!
//! **What it protects from.** An upstream with more calls in it than it can work on: they wait
//! there, each answer comes later, and in the end nobody waits for them any more. Nobody has to
//! know or to set a number, and it follows an upstream whose capacity changes.
//!
//! **How.** From how long the upstream takes and how much comes through, window by window: the
//! diagram is in `adaptive_limiter/machine.rs`. What `overload_if` takes counts as the upstream's
//! own word that it has too much to do. Results that say nothing about the upstream give no sample
//! (`blame.rs`); a call that was cut off is one if it took far longer than usual.
//!
//! **What holds a place.** A call, until the response's head, or, with `until = "body"`, until its
//! body has ended. A call whose client still sends its request body takes none.
//!
//! **Events.** [`AdaptiveLimiterEvent`], [`CallEvent::Rejected`], [`QueueEvent`].
//!
//! **Composition.** Inside a retry, so that it sees attempts and no place is held between them;
//! outside a timeout, so that what takes too long is a drop.

mod admission;
mod config;
mod limiter;
mod line;
mod machine;
mod shared;
mod window;

pub use config::{AdaptiveLimiterConfig, LimiterQueueConfig, LimiterWindowConfig};

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::blame;
use crate::boxed::boxed;
use crate::call::Call;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::{Asker, ConditionConfig};
use crate::config::{Problem, Problems};
use crate::error::{ErrorKind, Failure};
use crate::event::{CallEvent, EventKind, LimitChangeKind, QueueEvent};
use crate::key::CallKey;
use crate::keyed::{Keyed, KeysConfig};
use crate::native::Native;
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownKeys};
use crate::slot::Slot;
use admission::LimitedCall;
use limiter::{Limiter, LimiterState, RETRY_AFTER};
use line::LimiterLine;
use machine::{LimitChange, LimiterSettings};
use shared::LimiterStatus;

/// Lets as many calls go on at once as the upstream has use for.
#[derive(Debug)]
pub struct AdaptiveLimiter(Arc<Limiter>);

impl PolicyConfig for AdaptiveLimiterConfig {
    const KIND: &'static str = "adaptive-limiter";

    type Policy = AdaptiveLimiter;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<AdaptiveLimiter, Vec<Problem>> {
        let mut problems = Problems::default();
        let settings = self.settings(&mut problems);
        let overload_if = ConditionConfig::build(
            self.overload_if,
            "overload_if",
            Slot::HandleIf,
            Native::OVERLOADS,
            parts,
            &mut problems,
        );
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(parts, &mut problems);
        problems.into_result(())?;
        let (queue, max_wait) = (self.queue, self.max_wait.map(|wait| wait.0));
        let states = Keyed::new(keys, move || {
            let settings = LimiterSettings { seed: fastrand::u64(..), ..settings };
            LimiterState::new(settings, LimiterLine::new(queue, max_wait), Instant::now())
        });
        Ok(AdaptiveLimiter(Arc::new(Limiter {
            name,
            overload_if,
            until: self.until,
            states,
            client_waits: ClientWaits::default(),
        })))
    }
}

impl AdaptiveLimiter {
    /// How many calls may be in flight, of those without a key.
    pub fn limit(&self) -> usize {
        self.0.states.one().shared.status().limit
    }
}

impl Policy for AdaptiveLimiter {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        AdaptiveLimiterConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let states = &self.0.states;
        let add = |(taken, waiting), state: &LimiterState| {
            (taken + state.room.taken(), waiting + state.room.waiting())
        };
        let (taken, waiting) = states.fold((0, 0), add);
        let mut shown = vec![
            ("in_use", Shown::Gauge(taken as u64, "Places of an adaptive limiter that are taken")),
            (
                "waiting",
                Shown::Gauge(waiting as u64, "Calls that wait for a place of an adaptive limiter"),
            ),
            (
                "waiting_for_clients",
                Shown::Gauge(
                    self.0.client_waits.count() as u64,
                    "Calls of an adaptive limiter that wait for their client's request body",
                ),
            ),
        ];
        match states.count() {
            None => {
                let LimiterStatus { limit, baseline } = states.one().shared.status();
                shown.insert(
                    0,
                    (
                        "limit",
                        Shown::Gauge(
                            limit as u64,
                            "Calls that an adaptive limiter lets go on at once",
                        ),
                    ),
                );
                shown.push(("baseline", Shown::Time(baseline.unwrap_or_default())));
            }
            Some(count) => shown.push((
                "keys",
                Shown::Gauge(
                    count as u64,
                    "Keys that have a limit of their own in an adaptive limiter",
                ),
            )),
        }
        shown
    }

    fn key(&self) -> Option<&CallKey> {
        self.0.states.key()
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.0.states.show()
    }

    fn announces(&self) -> Vec<EventKind> {
        let kind = ErrorKind::Overloaded;
        let changes = LimitChangeKind::ALL.map(|kind| LimitChange { from: 0, to: 0, kind }.into());
        let rejected = CallEvent::Rejected { kind, retry_after: Some(RETRY_AFTER) };
        let admitted = QueueEvent::Admitted { waited: Duration::ZERO };
        let events = changes.into_iter().chain([rejected.into(), admitted.into()]);
        events.chain(self.0.states.announces()).collect()
    }

    fn outline(&self) -> Outline<'_> {
        let waits = self.0.states.one().line.max_wait().unwrap_or_default();
        Outline {
            // That nothing says so does not keep it from finding out.
            acts: None,
            waits,
            waits_for_breaker: waits,
            makes: &[Failure::Overloaded],
            waits_for_clients: true,
            peeked: self.0.overload_if.peeked(),
            holds_place: true,
            ..Outline::passing("as many at once as the upstream has use for")
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            self.0.client_waits.gather(call).await?;
            let mut limited = LimitedCall::enter(&self.0, call, next).await?;
            let mut outcome = limited.run().await;
            // Before it is judged: a component's peek is not the upstream's slowness.
            let ended = clock::now();
            let asker = Asker { policy: &self.0.name, scope: next.scope() };
            let blame = blame::judge(&self.0.overload_if, call, asker, &mut outcome).await;
            limited.answer(&mut outcome, blame, ended);
            outcome
        })
    }
}

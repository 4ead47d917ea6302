//! Bulkhead: lets only so many calls go on at once.
//!
//! **What it protects from.** An upstream that becomes slow: without a bound, the calls that wait
//! for it pile up until nothing is left for others, and it has to work on more and more of them.
//! Beyond `max_concurrency` calls wait in a line, in the order of their arrival, or are turned
//! away.
//!
//! **What holds a place.** A call, until its response body has ended or is discarded, or, with
//! `until = "head"`, until the head is there. A retry around it discards a response before its next
//! attempt, so that its place is free again by then. A call whose client still sends its request
//! body takes none: a client must not hold what others wait for (`client_waits.rs`).
//!
//! **Events.** [`CallEvent::Rejected`], [`QueueEvent`].
//!
//! **Composition.** Inside a retry, so that no place is held between two attempts; inside a
//! breaker, which takes its rejections for neutral; outside a timeout, whose limit then does not
//! run while a call waits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use super::waiting::wait_for_place;
use crate::boxed::boxed;
use crate::call::Call;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::Asker;
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind, Failure};
use crate::event::{CallEvent, EventKind, QueueEvent};
use crate::held_until::HeldUntil;
use crate::key::{CallKey, KeyConfig};
use crate::keyed::{Keyed, KeyedState, KeysConfig};
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownKeys};
use crate::room::{Entry, Place, Room};
use crate::scope::Scope;

/// More are as good as unlimited.
const MAX_PLACES: usize = 1_000_000;

/// `kind = "bulkhead"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct BulkheadConfig {
    /// So many calls at once, 1 to 1,000,000.
    pub max_concurrency: usize,
    /// How long a call waits for a place. Default 0: it does not.
    #[serde(default = "ConfigDuration::none")]
    pub max_wait: ConfigDuration,
    /// So many may wait at once, up to 1,000,000. Default: ten times `max_concurrency`, at least
    /// 100.
    pub max_queue: Option<usize>,
    /// Until when a call keeps its place. Default `"body"`.
    #[serde(default)]
    pub until: HeldUntil,
    /// By which calls are told apart; each value has places of its own. Default: none.
    pub key: Option<KeyConfig>,
    /// So many keys, up to 1,000,000. Default 10,000.
    pub max_keys: Option<usize>,
    /// For so long a key that is not used is remembered. Default 10 min.
    pub idle: Option<ConfigDuration>,
}

impl PolicyConfig for BulkheadConfig {
    const KIND: &'static str = "bulkhead";

    type Policy = Bulkhead;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<Bulkhead, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require_within(self.max_concurrency, 1..=MAX_PLACES, "max_concurrency");
        problems.require_time_or_zero(self.max_wait, "max_wait");
        let max_queue = self
            .max_queue
            .unwrap_or_else(|| self.max_concurrency.saturating_mul(10).clamp(100, MAX_PLACES));
        problems.require_within(max_queue, 0..=MAX_PLACES, "max_queue");
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(parts, &mut problems);
        let places = self.max_concurrency;
        problems.into_result(Bulkhead {
            name,
            max_concurrency: places,
            max_wait: self.max_wait.0,
            max_queue,
            until: self.until,
            rooms: Keyed::new(keys, move || Room::new(places)),
            client_waits: ClientWaits::default(),
        })
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let waits = !self.max_wait.0.is_zero();
        problems.require(
            self.max_queue.is_none_or(|queue| queue == 0 || waits),
            "max_queue",
            || "nobody waits without a `max_wait`".into(),
        );
        problems.require(self.max_queue != Some(0) || !waits, "max_wait", || {
            "nobody waits with a `max_queue` of 0".into()
        });
        problems.into_result(()).err().unwrap_or_default()
    }
}

/// Lets only so many calls go on at once.
#[derive(Debug)]
pub struct Bulkhead {
    name: Arc<str>,
    max_concurrency: usize,
    max_wait: Duration,
    max_queue: usize,
    until: HeldUntil,
    rooms: Keyed<Room>,
    client_waits: ClientWaits,
}

impl Bulkhead {
    async fn enter(&self, call: &Call, scope: &Scope<'_>) -> Result<Place, Error> {
        self.rooms.turn(call).await;
        let room = self.rooms.of(call, Asker { policy: &self.name, scope });
        let now = clock::now();
        let left =
            scope.deadline(call).map_or(Duration::MAX, |end| end.saturating_duration_since(now));
        let longest = self.max_wait.min(left);
        let max_queue = if longest.is_zero() { 0 } else { self.max_queue };
        let place = match room.enter(max_queue) {
            Entry::Place(place) => Some(place),
            // Boxed to keep the common path's future small.
            Entry::Line(line) => Box::pin(wait_for_place(call, &self.name, line, longest)).await,
            Entry::Full => None,
        };
        place.ok_or_else(|| {
            let kind = ErrorKind::BulkheadFull;
            call.emit(&self.name, CallEvent::Rejected { kind, retry_after: None });
            Error::new(kind)
        })
    }
}

impl Policy for Bulkhead {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        BulkheadConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let add = |(taken, waiting), room: &Room| (taken + room.taken(), waiting + room.waiting());
        let (taken, waiting) = self.rooms.fold((0, 0), add);
        let mut shown = vec![
            ("in_use", Shown::Gauge(taken as u64, "Places of a bulkhead that are taken")),
            (
                "max_concurrency",
                Shown::Gauge(
                    self.max_concurrency as u64,
                    "Places of a bulkhead, or of each of its keys",
                ),
            ),
            ("waiting", Shown::Gauge(waiting as u64, "Calls that wait for a place of a bulkhead")),
            (
                "waiting_for_clients",
                Shown::Gauge(
                    self.client_waits.count() as u64,
                    "Calls of a bulkhead that wait for their client's request body",
                ),
            ),
        ];
        shown.extend(self.rooms.count().map(|count| {
            ("keys", Shown::Gauge(count as u64, "Keys that have places of their own in a bulkhead"))
        }));
        shown
    }

    fn key(&self) -> Option<&CallKey> {
        self.rooms.key()
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.rooms.show()
    }

    fn announces(&self) -> Vec<EventKind> {
        let kind = ErrorKind::BulkheadFull;
        let mut events = vec![
            CallEvent::Rejected { kind, retry_after: None }.into(),
            QueueEvent::Admitted { waited: Duration::ZERO }.into(),
        ];
        events.extend(self.rooms.announces());
        events
    }

    fn outline(&self) -> Outline<'_> {
        let (places, wait) = (self.max_concurrency, ConfigDuration(self.max_wait));
        Outline {
            waits: self.max_wait,
            waits_for_breaker: self.max_wait,
            makes: &[Failure::BulkheadFull],
            waits_for_clients: true,
            holds_place: true,
            ..Outline::passing(format!("{places} at once, waiting up to {wait}"))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            self.client_waits.gather(call).await?;
            let place = self.enter(call, next.scope()).await?;
            let mut outcome = next.run(call).await;
            self.until.keep(place, &mut outcome);
            outcome
        })
    }
}

impl KeyedState for Room {
    /// Whoever has a place or waits for one has the room too.
    fn is_at_rest(&self, _: Instant) -> bool {
        true
    }

    fn show(&self, _: Instant) -> Vec<(&'static str, Shown)> {
        vec![
            ("in_use", Shown::Count(self.taken() as u64)),
            ("waiting", Shown::Count(self.waiting() as u64)),
        ]
    }
}

//! A limiter as calls and bodies under way know it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::line::LimiterLine;
use super::machine::{LimitChange, LimiterSettings};
use super::shared::{LimiterStatus, SharedLimiter};
use super::window::LimiterSample;
use crate::blame::CountsLate;
use crate::call::Reporter;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::Condition;
use crate::event::{AdaptiveLimiterEvent, ComponentId, EventKind};
use crate::held_until::HeldUntil;
use crate::keyed::{HeldState, Keyed, KeyedState};
use crate::policy::Shown;
use crate::room::Room;

/// What a rejected client is told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What all calls have in common, and the limits.
#[derive(Debug)]
pub(super) struct Limiter {
    pub(super) name: Arc<str>,
    pub(super) overload_if: Condition,
    pub(super) until: HeldUntil,
    pub(super) states: Keyed<LimiterState>,
    pub(super) client_waits: ClientWaits,
}

/// A limit, and who has a place.
#[derive(Debug)]
pub(super) struct LimiterState {
    pub(super) shared: SharedLimiter,
    pub(super) room: Arc<Room>,
    pub(super) line: LimiterLine,
    /// The limit at first.
    pub(super) initial: usize,
}

impl LimiterState {
    pub(super) fn new(settings: LimiterSettings, line: LimiterLine, now: Instant) -> Self {
        let shared = SharedLimiter::new(settings, now);
        let initial = shared.status().limit;
        Self { shared, room: Arc::new(Room::new(initial)), line, initial }
    }

    /// Takes a sample, after which there may be more or fewer places.
    pub(super) fn record(&self, sample: &LimiterSample) -> Option<LimitChange> {
        // The places are changed while the machine is locked: in the order of its changes.
        let resize = |change: LimitChange| (change, self.room.resize(change.to));
        let (change, woken) = self.shared.record(sample, resize)?;
        woken.wake();
        Some(change)
    }
}

/// What is kept of a call while the body of its response comes.
pub(super) struct LimiterHeld {
    /// `None`: there is one for all calls.
    pub(super) state: Option<HeldState<LimiterState>>,
    /// When it got its place,
    pub(super) began: Instant,
    /// and among how many.
    pub(super) in_flight: usize,
}

impl CountsLate for Limiter {
    type Held = LimiterHeld;

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn handle_if(&self) -> &Condition {
        &self.overload_if
    }

    fn count_late(
        &self,
        held: &Self::Held,
        failed: bool,
        by: Option<&ComponentId>,
        attempt: u32,
        reporter: &Reporter,
    ) {
        let &LimiterHeld { ref state, began, in_flight } = held;
        let Some(state) = state.as_ref().map(HeldState::state).or(self.states.only()) else {
            return;
        };
        let Some(asked) = reporter.asked(attempt) else { return };
        let ended = clock::now();
        let sample = LimiterSample { began, ended, asked, in_flight, is_drop: failed };
        if let Some(change) = state.record(&sample) {
            reporter.emit_about(attempt, &self.name, by, change);
        }
    }
}

impl KeyedState for LimiterState {
    /// Whoever has a place or waits for one has the state too. One that lets more calls through
    /// than a new one holds nobody back.
    fn is_at_rest(&self, _: Instant) -> bool {
        self.shared.status().limit >= self.initial
    }

    fn show(&self, _: Instant) -> Vec<(&'static str, Shown)> {
        let LimiterStatus { limit, baseline } = self.shared.status();
        vec![
            ("limit", Shown::Count(limit as u64)),
            ("in_use", Shown::Count(self.room.taken() as u64)),
            ("waiting", Shown::Count(self.room.waiting() as u64)),
            ("baseline", Shown::Time(baseline.unwrap_or_default())),
        ]
    }
}

impl From<LimitChange> for EventKind {
    fn from(LimitChange { from, to, kind }: LimitChange) -> Self {
        AdaptiveLimiterEvent::LimitChanged { from, to, kind }.into()
    }
}

//! A limiter as calls and bodies under way know it.

use std::sync::Arc;
use std::time::Duration;

use super::line::LimiterLine;
use super::machine::LimitChange;
use super::shared::SharedLimiter;
use super::window::LimiterSample;
use crate::blame::CountsLate;
use crate::call::Reporter;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::Condition;
use crate::event::{AdaptiveLimiterEvent, EventKind};
use crate::held_until::HeldUntil;
use crate::room::Room;

/// What a rejected client is told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limit, and who has a place.
#[derive(Debug)]
pub(super) struct Limiter {
    pub(super) name: Arc<str>,
    pub(super) overload_if: Condition,
    pub(super) until: HeldUntil,
    pub(super) shared: SharedLimiter,
    pub(super) room: Arc<Room>,
    pub(super) line: LimiterLine,
    pub(super) client_waits: ClientWaits,
}

impl Limiter {
    /// Takes a sample, after which there may be more or fewer places.
    pub(super) fn record(&self, sample: &LimiterSample) -> Option<LimitChange> {
        // The places are changed while the machine is locked: in the order of its changes.
        let resize = |change: LimitChange| (change, self.room.resize(change.to));
        let (change, woken) = self.shared.record(sample, resize)?;
        woken.wake();
        Some(change)
    }
}

impl CountsLate for Limiter {
    type Held = ();

    fn handle_if(&self) -> &Condition {
        &self.overload_if
    }

    fn failed_late(&self, (): &(), attempt: u32, reporter: &Reporter) {
        let Some(asked) = reporter.asked(attempt) else { return };
        // When exactly it was admitted is not known any more.
        let (began, ended) = (reporter.request().started(), clock::now());
        let sample = LimiterSample { began, ended, asked, in_flight: 0, is_drop: true };
        if let Some(change) = self.record(&sample) {
            reporter.emit_about(attempt, &self.name, None, change);
        }
    }
}

impl From<LimitChange> for EventKind {
    fn from(LimitChange { from, to, kind }: LimitChange) -> Self {
        AdaptiveLimiterEvent::LimitChanged { from, to, kind }.into()
    }
}

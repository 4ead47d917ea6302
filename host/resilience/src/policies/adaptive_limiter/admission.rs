//! A call with a place, and what is learnt from it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::limiter::{Limiter, LimiterHeld, LimiterState, RETRY_AFTER};
use super::window::LimiterSample;
use crate::blame::{self, Blame, HeadBlame};
use crate::call::Call;
use crate::clock;
use crate::condition::Asker;
use crate::error::{Error, ErrorKind};
use crate::event::{AttemptOutcome, CallEvent, ComponentId};
use crate::keyed::StateOf;
use crate::outcome::{Outcome, OutcomeExt};
use crate::policies::waiting::wait_for_place;
use crate::policy::Next;
use crate::priority::PriorityLevel;
use crate::room::{Entry, Place};

/// A call with a place. Dropped unanswered, it gives its place back, and is a sample if it was cut
/// off after far too long.
pub(super) struct LimitedCall<'a> {
    limiter: &'a Arc<Limiter>,
    state: StateOf<'a, LimiterState>,
    call: &'a Call,
    /// The attempts that the call made before: none of them was made in this place.
    attempts: u32,
    /// When it got its place.
    began: Instant,
    /// `None`: it has been answered.
    place: Option<Place>,
    /// What it has its place for. `None`: it has ended. Other attempts of the call may be under way
    /// beside those within, so which of them are cut off shows when this is dropped.
    inside: Option<LocalBoxFuture<'a, Outcome>>,
}

impl<'a> LimitedCall<'a> {
    pub(super) async fn enter(
        limiter: &'a Arc<Limiter>,
        call: &'a Call,
        next: Next<'a>,
    ) -> Result<Self, Error> {
        let asker = Asker { policy: &limiter.name, scope: next.scope() };
        limiter.states.turn(call).await;
        let state = limiter.states.of(call, asker);
        let place = match state.room.enter(0) {
            Entry::Place(place) => Some(place),
            // Boxed to keep the common path's future small.
            _ => Box::pin(wait(&state, call, asker)).await,
        };
        let Some(place) = place else {
            let (kind, retry_after) = (ErrorKind::Overloaded, Some(RETRY_AFTER));
            call.emit(&limiter.name, CallEvent::Rejected { kind, retry_after });
            return Err(Error::new(kind).with_retry_after(retry_after));
        };
        let (attempts, began) = (call.attempts(), clock::now());
        let inside = Some(next.run(call));
        Ok(Self { limiter, state, call, attempts, began, place: Some(place), inside })
    }

    /// Runs what it has its place for.
    pub(super) async fn run(&mut self) -> Outcome {
        let Some(inside) = &mut self.inside else { return pending().await };
        let outcome = inside.await;
        self.inside = None;
        outcome
    }

    /// Learns from the outcome of this call, which ended then, and lets its place go in time.
    pub(super) fn answer(mut self, outcome: &mut Outcome, blame: HeadBlame, ended: Instant) {
        let Some(place) = self.place.take() else { return };
        let attempt = outcome.attempt();
        // An outcome that no attempt of this place led to says nothing about it.
        let asked = self.call.asked(attempt).filter(|_| attempt > self.attempts);
        if let Some(asked) = asked {
            let (began, in_flight) = (self.began, place.among());
            let held = || LimiterHeld { state: self.state.to_held(), began, in_flight };
            match blame::follow(self.limiter, held, self.call, outcome, blame) {
                Blame::Success => self.learn(&place, attempt, None, asked, false, ended),
                Blame::Failure(by) => {
                    self.learn(&place, attempt, by.as_ref(), asked, true, ended);
                }
                Blame::Nothing => {}
            }
        }
        self.limiter.until.keep(place, outcome);
    }

    fn learn(
        &self,
        place: &Place,
        attempt: u32,
        by: Option<&ComponentId>,
        asked: Duration,
        is_drop: bool,
        ended: Instant,
    ) {
        let (began, in_flight) = (self.began, place.among());
        let sample = LimiterSample { began, ended, asked, in_flight, is_drop };
        if let Some(change) = self.state.record(&sample) {
            self.call.emit_about(attempt, &self.limiter.name, by, change);
        }
    }
}

/// Waits for a place. `None`: it may not, or there was none by then.
async fn wait(state: &LimiterState, call: &Call, asker: Asker<'_>) -> Option<Place> {
    let now = clock::now();
    let longest = state.line.longest(asker.scope.deadline(call), now);
    let level = asker.scope.level(call);
    let (waiting, limit) = (state.room.waiting(), state.room.places());
    let most = state.line.most(level, waiting, limit, || call.random().fraction(), now);
    let most = if longest.is_zero() { 0 } else { most };
    let rank = level.map_or(0, PriorityLevel::number);
    match state.room.enter_as(rank, most) {
        Entry::Place(place) => Some(place),
        Entry::Line(line) => wait_for_place(call, asker.policy, line, longest).await,
        Entry::Full => None,
    }
}

impl Drop for LimitedCall<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        // It is cut off from outside.
        let before = self.call.ended_attempts();
        drop(self.inside.take());
        let cut = self.call.ended_after(before).into_iter();
        let cut = cut.filter(|cut| cut.outcome == AttemptOutcome::Cancelled);
        if let Some(cut) = cut.max_by_key(|cut| cut.asked)
            && self.state.shared.is_drop_if_cut(cut.asked)
        {
            self.learn(&place, cut.provenance.attempt, None, cut.asked, true, clock::now());
        }
    }
}

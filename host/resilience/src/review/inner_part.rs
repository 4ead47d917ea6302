//! What a policy has inside it: what may come from there, how often and how long at worst.

use std::sync::Arc;
use std::time::Duration;

use super::route::{ReviewedRoute, Worst};
use crate::error::Failure;
use crate::native::Native;
use crate::outline::{ActsResult, Outline};

/// What a policy has inside it.
pub(super) struct InnerPart<'a> {
    pub(super) route: ReviewedRoute<'a>,
    /// What may come out.
    pub(super) comes: Native,
    pub(super) worst: Worst,
    /// How long one attempt may take, by the limits around it alone.
    pub(super) attempt: Duration,
    /// What doesn't come any more, whose doing that is, and what it says in its place.
    pub(super) gone: Vec<(Arc<str>, Native, ActsResult)>,
    /// Who repeats already, and its key.
    pub(super) repeats: Option<(Arc<str>, &'static str)>,
}

impl<'a> InnerPart<'a> {
    pub(super) fn upstream(route: ReviewedRoute<'a>) -> Self {
        let ReviewedRoute { attempt, is_grpc, .. } = route;
        Self {
            route,
            comes: if is_grpc { Native::OF_GRPC_UPSTREAM } else { Native::OF_UPSTREAM },
            worst: Worst { requests: Some(1), time: Some(attempt) },
            attempt,
            gone: Vec::new(),
            repeats: None,
        }
    }

    /// What the next policy further out has inside it.
    pub(super) fn within(
        mut self,
        name: &Arc<str>,
        outline: &Outline<'_>,
        others: &dyn Fn(&str) -> Worst,
    ) -> Self {
        if let Some(acts) = &outline.acts {
            let spared = acts.but_on.map_or(Native::NOTHING, |but_on| but_on.may_take());
            let taken = acts.on.must_take().but(&spared);
            let gone = match acts.result {
                ActsResult::Same
                | ActsResult::Counted { .. }
                | ActsResult::Answer { may_decline: true } => Native::NOTHING,
                // A failure is still behind the one that takes its place.
                ActsResult::Failure => taken.without_failures(),
                ActsResult::Answer { may_decline: false } => taken,
            };
            let gone = gone.and(&self.comes);
            self.comes = self.comes.but(&gone);
            if !gone.is_empty() {
                self.gone.push((name.clone(), gone, acts.result));
            }
        }
        self.comes = self.comes.or(&Native::of_failures(outline.makes));
        self.worst = self.worst_within(outline);
        if let Some(other) = outline.asks {
            self.worst = self.worst.and_then(others(other));
        }
        if let Some(limit) = outline.limit
            && self.repeats.is_none()
        {
            self.attempt = self.attempt.min(limit);
        }
        if outline.runs != Some(1) {
            self.repeats = Some((name.clone(), outline.runs_key));
        }
        self
    }

    pub(super) fn worst_within(&self, outline: &Outline<'_>) -> Worst {
        let Worst { requests, time } = self.worst;
        let times = |one: u64| Some(one.saturating_mul(outline.runs?));
        let waits = self.waits_of(outline);
        let runs = outline.runs.map(|runs| u32::try_from(runs).unwrap_or(u32::MAX));
        let in_all = |one: Duration| Some(one.saturating_mul(runs?).saturating_add(waits));
        let begun = |one: Duration| Some(outline.last_run?.saturating_add(one));
        let longest = time.and_then(|one| match (in_all(one), begun(one)) {
            (Some(all), Some(begun)) => Some(all.min(begun)),
            (all, begun) => all.or(begun),
        });
        Worst {
            requests: requests.and_then(times),
            time: match outline.limit {
                Some(limit) => Some(longest.map_or(limit, |longest| longest.min(limit))),
                None => longest,
            },
        }
    }

    fn waits_of(&self, outline: &Outline<'_>) -> Duration {
        let asks = self.comes.and(&Native::of_failures(&[Failure::CircuitOpen]));
        if asks.is_empty() { outline.waits } else { outline.waits_for_breaker }
    }
}

//! What policies do, by route and policy.

use std::sync::Arc;

use fusebox_resilience::{
    AdaptiveLimiterEvent, CacheEvent, CircuitBreakerEvent, ErrorKind, FallbackEvent, HedgeEvent,
    KeysEvent, RetryEvent, TimeoutEvent,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::family::{Counters, Families, Histograms, Label, Labels, of};

/// The policy that an event is about, and the route that it is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    pub(super) route: Option<&'a Arc<str>>,
    pub(super) policy: Option<&'a Arc<str>>,
}

impl Whose<'_> {
    pub(super) fn route(self) -> Label {
        self.route.map_or(Label::Word(""), Label::from)
    }

    fn policy(self) -> Label {
        self.policy.map_or(Label::Word(""), Label::from)
    }

    fn both(self) -> Labels<2> {
        [("route", self.route()), ("policy", self.policy())]
    }

    fn with_reason(self, reason: &'static str) -> Labels<3> {
        [("route", self.route()), ("policy", self.policy()), ("reason", reason.into())]
    }
}

/// Each method has the counter of an event, which exists from then on, or `None` if the event is
/// counted otherwise.
#[derive(Debug)]
pub(super) struct PolicyCounters {
    retries: Counters<2>,
    retries_exhausted: Counters<2>,
    retries_aborted: Counters<2>,
    retries_skipped: Counters<3>,
    timeouts: Counters<2>,
    body_timeouts: Counters<3>,
    transitions: Counters<3>,
    late_failures: Counters<2>,
    rejections: Counters<3>,
    fallbacks: Counters<2>,
    fallbacks_declined: Counters<2>,
    queue_waits: Histograms<2>,
    limit_changes: Counters<2>,
    hedges: Counters<2>,
    hedges_won: Counters<2>,
    hedges_cancelled: Counters<2>,
    hedges_skipped: Counters<3>,
    key_overflows: Counters<2>,
    cache_stale: Counters<3>,
    cache_broken: Counters<2>,
    cache_waits: Counters<2>,
}

impl PolicyCounters {
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        Self {
            retries: new.counters("retries", "Retries that were scheduled"),
            retries_exhausted: new
                .counters("retries_exhausted", "Calls that still failed after their last retry"),
            retries_aborted: new.counters("retries_aborted", "Calls whose retries abort_if ended"),
            retries_skipped: new
                .counters("retries_skipped", "Failures that were not retried, by the reason"),
            timeouts: new.counters("timeouts", "Calls and attempts that a timeout policy cut off"),
            body_timeouts: new.counters(
                "body_timeouts",
                "Response bodies that a timeout policy cut off, by the limit",
            ),
            transitions: new
                .counters("circuit_breaker_transitions", "Changes of a circuit breaker's state"),
            late_failures: new.counters(
                "late_failures",
                "Responses that a circuit breaker took for a success until their body broke off",
            ),
            rejections: new.counters("rejections", "Calls and attempts that a policy turned away"),
            fallbacks: new.counters("fallbacks", "Answers that a fallback gave"),
            fallbacks_declined: new
                .counters("fallbacks_declined", "Calls that a fallback's component did not answer"),
            queue_waits: new.histograms(
                "queue_wait_seconds",
                "Time that calls waited for their turn in a policy, of those that were admitted",
            ),
            limit_changes: new
                .counters("adaptive_limiter_changes", "Changes of an adaptive limiter's limit"),
            hedges: new.counters("hedges", "Attempts that a hedge started beside others"),
            hedges_won: new.counters(
                "hedges_won",
                "Hedges whose outcome went out in place of the first attempt's",
            ),
            hedges_cancelled: new.counters(
                "hedges_cancelled",
                "Attempts, first ones too, that were cancelled since another had won",
            ),
            hedges_skipped: new
                .counters("hedges_skipped", "Hedges that were not started, by the reason"),
            key_overflows: new.counters(
                "key_overflows",
                "Calls that share a state with others, since a policy has too many keys",
            ),
            cache_stale: new.counters(
                "cache_stale_served",
                "Answers of a cache that were stale, by the reason",
            ),
            cache_broken: new.counters(
                "cache_fills_broken",
                "Responses that a cache could not store because their body broke off",
            ),
            cache_waits: new.counters(
                "cache_waits_exceeded",
                "Requests that waited too long for the answer to the same request",
            ),
        }
    }

    pub(super) fn timeout(&self, event: &TimeoutEvent, whose: Whose<'_>) -> Counter {
        match event {
            TimeoutEvent::Exceeded { .. } => of(&self.timeouts, whose.both()),
            TimeoutEvent::BodyCut { limit } => {
                let limit = ("limit", limit.name().into());
                of(
                    &self.body_timeouts,
                    [("route", whose.route()), ("policy", whose.policy()), limit],
                )
            }
        }
    }

    pub(super) fn retry(&self, event: &RetryEvent, whose: Whose<'_>) -> Counter {
        match event {
            RetryEvent::Scheduled { .. } => of(&self.retries, whose.both()),
            RetryEvent::Exhausted { .. } => of(&self.retries_exhausted, whose.both()),
            RetryEvent::Aborted => of(&self.retries_aborted, whose.both()),
            RetryEvent::Skipped { reason } => {
                of(&self.retries_skipped, whose.with_reason(reason.name()))
            }
        }
    }

    pub(super) fn circuit_breaker(&self, event: &CircuitBreakerEvent, whose: Whose<'_>) -> Counter {
        match event {
            CircuitBreakerEvent::StateChanged { from, to, .. } => {
                let (from, to) = (("from", from.name().into()), ("to", to.name().into()));
                of(&self.transitions, [("policy", whose.policy()), from, to])
            }
            CircuitBreakerEvent::FailedLate { .. } => of(&self.late_failures, whose.both()),
        }
    }

    /// What it turned away.
    pub(super) fn rejection(&self, kind: ErrorKind, whose: Whose<'_>) -> Counter {
        of(&self.rejections, whose.with_reason(kind.failure().name()))
    }

    pub(super) fn fallback(&self, event: &FallbackEvent, whose: Whose<'_>) -> Counter {
        match event {
            FallbackEvent::Served { .. } => of(&self.fallbacks, whose.both()),
            FallbackEvent::Declined => of(&self.fallbacks_declined, whose.both()),
        }
    }

    pub(super) fn adaptive_limiter(
        &self,
        event: &AdaptiveLimiterEvent,
        whose: Whose<'_>,
    ) -> Counter {
        match event {
            AdaptiveLimiterEvent::LimitChanged { kind, .. } => {
                let labels = [("policy", whose.policy()), ("kind", kind.name().into())];
                of(&self.limit_changes, labels)
            }
        }
    }

    pub(super) fn hedge(&self, event: &HedgeEvent, whose: Whose<'_>) -> Counter {
        match event {
            HedgeEvent::Launched { .. } => of(&self.hedges, whose.both()),
            HedgeEvent::Won { .. } => of(&self.hedges_won, whose.both()),
            HedgeEvent::Cancelled { .. } => of(&self.hedges_cancelled, whose.both()),
            HedgeEvent::Skipped { reason } => {
                of(&self.hedges_skipped, whose.with_reason(reason.name()))
            }
        }
    }

    pub(super) fn keys(&self, event: &KeysEvent, whose: Whose<'_>) -> Counter {
        match event {
            KeysEvent::Overflowed { .. } => of(&self.key_overflows, whose.both()),
        }
    }

    pub(super) fn cache(&self, event: &CacheEvent, whose: Whose<'_>) -> Option<Counter> {
        Some(match event {
            CacheEvent::ServedStale { reason, .. } => {
                of(&self.cache_stale, whose.with_reason(reason.name()))
            }
            CacheEvent::Broken { .. } => of(&self.cache_broken, whose.both()),
            CacheEvent::WaitedTooLong => of(&self.cache_waits, whose.both()),
            // What happens to every request is counted by route (`requests.rs`); the others are
            // details, and an operator's own doing.
            CacheEvent::Used { .. }
            | CacheEvent::Stored { .. }
            | CacheEvent::Refused { .. }
            | CacheEvent::Invalidated
            | CacheEvent::Purged { .. } => return None,
        })
    }

    /// How long calls wait in this policy, on this route.
    pub(super) fn queue_wait(&self, whose: Whose<'_>) -> Histogram {
        of(&self.queue_waits, whose.both())
    }
}

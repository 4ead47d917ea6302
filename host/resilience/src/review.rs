//! Looks at the policies of a route before they run: how often and how long a call may go through
//! them at worst, and what is hardly meant as it is.
//!
//! Each policy says what it does ([`Policy::outline`]). What may come from inside it follows from
//! those further in: a set of statuses and failures, which a policy adds to, and takes from.

use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigDuration;
use crate::error::Failure;
use crate::native::Native;
use crate::outline::{Acts, ActsResult, Outline};
use crate::policy::Policy;

/// More requests for one are told of.
const MANY: u64 = 10;
/// Failures that only policies make.
const OF_POLICIES: [Failure; 6] = [
    Failure::CircuitOpen,
    Failure::BulkheadFull,
    Failure::RateLimited,
    Failure::Overloaded,
    Failure::BudgetExceeded,
    Failure::RetriesExceeded,
];

/// What is found of a route.
#[derive(Debug)]
pub struct Review {
    /// A row for each policy, outermost first.
    pub rows: Vec<ReviewRow>,
    /// What is hardly meant.
    pub remarks: Vec<Remark>,
    /// Of the whole route.
    pub worst: Worst,
    /// How much of a response body is kept for components to look at, in bytes.
    pub peeked: usize,
}

/// A policy.
#[derive(Debug)]
pub struct ReviewRow {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: &'static str,
    /// What it does, in a few words.
    pub words: String,
    /// Of it and what is inside it.
    pub worst: Worst,
}

/// What a call comes to at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// Requests to the upstream. `None`: there is no bound.
    pub requests: Option<u64>,
    /// Until the response head, without the time in which the client is waited for. `None`: there
    /// is no bound.
    pub time: Option<Duration>,
}

impl Worst {
    /// Both, one after the other.
    fn and_then(self, next: Self) -> Self {
        let (requests, times) = (self.requests.zip(next.requests), self.time.zip(next.time));
        Self {
            requests: requests.map(|(one, two)| one.saturating_add(two)),
            time: times.map(|(one, two)| one.saturating_add(two)),
        }
    }
}

/// Something that is allowed but hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Its key that would have to be another one.
    pub key: &'static str,
    /// What is the matter, and what would be better.
    pub message: String,
}

impl Review {
    /// Looks at these policies, outermost first, around an upstream whose attempts take at most so
    /// long, and which may be called by gRPC. What asking others by their names comes to, `others`
    /// knows.
    pub fn of(
        policies: &[Arc<dyn Policy>],
        attempt: Duration,
        is_grpc: bool,
        others: &dyn Fn(&str) -> Worst,
    ) -> Self {
        let outlines = || policies.iter().map(|policy| (policy, policy.outline()));
        let mut inside = InnerPart::upstream(attempt, is_grpc);
        let mut rows = Vec::new();
        let mut remarks = Vec::new();
        let mut peeked = 0;
        for (index, (policy, outline)) in outlines().enumerate().rev() {
            let limits = outlines()
                .take(index)
                .filter_map(|(policy, outline)| Some((outline.limit?, policy.name().clone())));
            let outside = limits.min();
            let mut remark = |key, message| {
                remarks.push(Remark { policy: policy.name().clone(), key, message });
            };
            inside.look(&outline, outside, &mut remark);
            peeked = peeked.max(outline.peeked);
            inside = inside.within(policy.name(), &outline, others);
            let Outline { words, .. } = outline;
            let (name, kind) = (policy.name().clone(), policy.kind());
            rows.push(ReviewRow { name, kind, words, worst: inside.worst });
        }
        rows.reverse();
        remarks.reverse();
        Self { rows, remarks, worst: inside.worst, peeked }
    }
}

/// The shortest limit around a policy, and whose that is.
type OuterLimit = Option<(Duration, Arc<str>)>;

/// What a policy has inside it.
struct InnerPart {
    /// What may come out.
    comes: Native,
    worst: Worst,
    /// How long one attempt may take, by the limits around it alone.
    attempt: Duration,
    /// What doesn't come any more, whose doing that is, and what it says in its place.
    gone: Vec<(Arc<str>, Native, ActsResult)>,
    /// Who repeats already, and its key.
    repeats: Option<(Arc<str>, &'static str)>,
}

impl InnerPart {
    fn upstream(attempt: Duration, is_grpc: bool) -> Self {
        Self {
            comes: if is_grpc { Native::OF_GRPC_UPSTREAM } else { Native::OF_UPSTREAM },
            worst: Worst { requests: Some(1), time: Some(attempt) },
            attempt,
            gone: Vec::new(),
            repeats: None,
        }
    }

    /// What the next policy further out has inside it.
    fn within(
        mut self,
        name: &Arc<str>,
        outline: &Outline<'_>,
        others: &dyn Fn(&str) -> Worst,
    ) -> Self {
        if let Some(acts) = &outline.acts {
            let spared = acts.but_on.map_or(Native::NOTHING, |but_on| but_on.may_take());
            let taken = acts.on.must_take().but(&spared);
            let gone = match acts.result {
                ActsResult::Same | ActsResult::Counted { .. } => Native::NOTHING,
                // A failure is still behind the one that takes its place.
                ActsResult::Failure => taken.without_failures(),
                ActsResult::Answer => taken,
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

    fn worst_within(&self, outline: &Outline<'_>) -> Worst {
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

    fn look(
        &self,
        outline: &Outline<'_>,
        outside: OuterLimit,
        remark: &mut dyn FnMut(&'static str, String),
    ) {
        if let Some(acts) = &outline.acts {
            self.look_at_condition(acts, remark);
            if let ActsResult::Counted { slow_calls: false, .. } = acts.result {
                self.look_at_cuts(&outside, remark);
            }
            if let ActsResult::Counted { by_endpoint: true, .. } = acts.result
                && let Some((name, _)) = &self.repeats
            {
                remark(
                    "scope",
                    format!(
                        "only the endpoint that `{name}` inside asks last gets to know; put it \
                         inside `{name}`, so that each attempt counts"
                    ),
                );
            }
        }
        if let (Some(limit), Some((nearest, name))) = (outline.limit, outside)
            && limit >= nearest
        {
            remark(
                "limit",
                format!(
                    "never passes: `{name}` around it ends the call after {}; give it a shorter \
                     limit, or leave it out",
                    ConfigDuration(nearest)
                ),
            );
        }
        if outline.holds_place
            && let Some((name, _)) = &self.repeats
        {
            remark(
                "kind",
                format!(
                    "a call keeps its place while `{name}` inside waits and asks again; put it \
                     inside `{name}`, so that attempts take places"
                ),
            );
        }
        if outline.runs != Some(1) {
            self.look_at_repeats(outline, remark);
        }
    }

    fn look_at_condition(&self, acts: &Acts<'_>, remark: &mut dyn FnMut(&'static str, String)) {
        let may = acts.on.may_take();
        if may.and(&self.comes).is_empty() {
            remark("handle_if", format!("{}: {}", acts.never, self.why_not(&may)));
            return;
        }
        let named = acts.on.named_failures().and(&Native::of_failures(&OF_POLICIES));
        let missing = named.but(&self.comes);
        if !missing.is_empty() {
            remark("handle_if", format!("no policy inside it makes {missing}"));
        }
        if let ActsResult::Counted { .. } = acts.result {
            let spared = acts.but_on.map_or(Native::NOTHING, |but_on| but_on.may_take());
            let of_upstream = Native::ILLNESSES.without_statuses().and(&self.comes);
            let missed = of_upstream.but(&may).but(&spared);
            if !missed.is_empty() {
                remark(
                    "handle_if",
                    format!(
                        "counts {missed} as a success, which closes a breaker however ill its \
                         upstream is; add it to `failure`"
                    ),
                );
            }
        }
    }

    fn why_not(&self, may: &Native) -> String {
        let gone = self.gone.iter().rev().find(|(_, gone, _)| !gone.and(may).is_empty());
        match gone {
            Some((name, gone, ActsResult::Answer)) => {
                format!("`{name}` inside it answers {} by itself", gone.and(may))
            }
            Some((name, gone, _)) => format!(
                "`{name}` inside it makes `retries-exceeded` of {} where it may repeat; add that \
                 to `failure`",
                gone.and(may)
            ),
            None if may.without_grpc().is_empty() => "it takes nothing".into(),
            None => format!("{may} can't come from inside it"),
        }
    }

    /// A hung upstream that only a limit outside cuts off says nothing to those who count.
    fn look_at_cuts(&self, outside: &OuterLimit, remark: &mut dyn FnMut(&'static str, String)) {
        if let Some((limit, name)) = outside
            && *limit <= self.attempt
        {
            remark(
                "slow_call",
                format!(
                    "an upstream that hangs never counts: `{name}` outside cuts it off after {}, \
                     which says nothing to those inside; put a timeout inside, or set `slow_call`",
                    ConfigDuration(*limit)
                ),
            );
        }
    }

    fn look_at_repeats(&self, outline: &Outline<'_>, remark: &mut dyn FnMut(&'static str, String)) {
        let all = self.worst_within(outline).requests;
        let count = |all: Option<u64>| all.map_or("any number of".into(), |all| all.to_string());
        let is_much = all.is_none_or(|all| all > MANY);
        // A hedge within a retry is usual, a retry within a retry is not.
        let repeats = self.repeats.as_ref().filter(|(_, key)| is_much || *key == outline.runs_key);
        if let Some((name, _)) = repeats {
            remark(
                outline.runs_key,
                format!(
                    "multiplies what `{name}` inside repeats: up to {} requests for one; leave it \
                     to one of them",
                    count(all)
                ),
            );
        } else if let Some(all) = all.filter(|all| *all > MANY) {
            remark(outline.runs_key, format!("up to {all} requests for one; 2 retries are usual"));
        }
    }
}

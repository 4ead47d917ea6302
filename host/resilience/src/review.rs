//! Looks at the policies of a route before they run: how often and how long a call may go through
//! them at worst, and what is hardly meant as it is.
//!
//! Each policy says what it does ([`Policy::outline`]). What may come from inside it follows from
//! those further in: a set of statuses and failures, which a policy adds to, and takes from.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::config::ConfigDuration;
use crate::error::Failure;
use crate::native::Native;
use crate::outline::{Acts, ActsResult, Outline};
use crate::policies::methods::Methods;
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

/// What is known of a route besides its policies.
#[derive(Clone, Copy, Debug)]
pub struct ReviewedRoute<'a> {
    /// How long an attempt takes at most.
    pub attempt: Duration,
    /// Whether its requests are calls by gRPC.
    pub is_grpc: bool,
    /// The methods that it takes. `None`: any.
    pub methods: Option<&'a [Method]>,
    /// The longest that a client waits.
    pub max_deadline: Option<Duration>,
}

impl ReviewedRoute<'_> {
    /// The methods in its list that may do something once more each time they are carried out. All
    /// of gRPC is POST, whatever it does.
    fn changing(&self) -> impl Iterator<Item = &Method> {
        let listed = self.methods.unwrap_or_default().iter().filter(|_| !self.is_grpc);
        listed.filter(|method| !Methods::is_idempotent(method))
    }

    /// Whether it takes any such request.
    fn may_change(&self) -> bool {
        !self.is_grpc && self.methods.is_none() || self.changing().next().is_some()
    }
}

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
    /// The first policy that waits for request bodies.
    pub waits_for_clients: Option<Arc<str>>,
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
    /// It ends then in any case.
    fn until(self, end: Option<Duration>) -> Self {
        Self { time: self.time.into_iter().chain(end).min(), ..self }
    }

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
    /// Looks at these policies of this route, outermost first. What asking others by their names
    /// comes to, `others` knows.
    pub fn of(
        policies: &[Arc<dyn Policy>],
        route: ReviewedRoute<'_>,
        others: &dyn Fn(&str) -> Worst,
    ) -> Self {
        let outlines = || policies.iter().map(|policy| (policy, policy.outline()));
        let mut waiting = outlines().filter(|(_, outline)| outline.waits_for_clients);
        let waits_for_clients = waiting.next().map(|(policy, _)| policy.name().clone());
        let deadline = route.max_deadline.map(|limit| (limit, Arc::from("max_deadline")));
        let mut inside = InnerPart::upstream(route);
        let mut rows = Vec::new();
        let mut remarks = Vec::new();
        let mut peeked = 0;
        for (index, (policy, outline)) in outlines().enumerate().rev() {
            let limits = outlines()
                .take(index)
                .filter_map(|(policy, outline)| Some((outline.limit?, policy.name().clone())));
            let outside = limits.chain(deadline.clone()).min();
            let mut remark = |key, message| {
                remarks.push(Remark { policy: policy.name().clone(), key, message });
            };
            inside.look(&outline, outside, &mut remark);
            peeked = peeked.max(outline.peeked);
            let hides = inside.hides(&outline).unwrap_or_default();
            inside = inside.within(policy.name(), &outline, others);
            let words = outline.words + hides;
            let (name, kind) = (policy.name().clone(), policy.kind());
            let worst = inside.worst.until(route.max_deadline);
            rows.push(ReviewRow { name, kind, words, worst });
        }
        rows.reverse();
        remarks.reverse();
        let worst = inside.worst.until(route.max_deadline);
        Self { rows, remarks, worst, peeked, waits_for_clients }
    }
}

/// The shortest limit around a policy, and whose that is.
type OuterLimit = Option<(Duration, Arc<str>)>;

/// What a policy has inside it.
struct InnerPart<'a> {
    route: ReviewedRoute<'a>,
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

impl<'a> InnerPart<'a> {
    fn upstream(route: ReviewedRoute<'a>) -> Self {
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
        if let Some((nearest, name)) = outside {
            self.look_at_times(outline, nearest, &name, remark);
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
        self.look_at_writes(outline, remark);
    }

    /// What would come later than the shortest limit outside.
    fn look_at_times(
        &self,
        outline: &Outline<'_>,
        nearest: Duration,
        name: &str,
        remark: &mut dyn FnMut(&'static str, String),
    ) {
        let limits = [("limit", outline.limit), ("max_duration", outline.last_run)];
        let ends = format!("`{name}` around it ends the call after {}", ConfigDuration(nearest));
        for (key, _) in limits.iter().filter(|(_, limit)| limit.is_some_and(|it| it >= nearest)) {
            let message = format!("never passes: {ends}; give it a shorter limit, or leave it out");
            remark(key, message);
        }
        if let Some((key, after)) = outline.runs_again.filter(|(_, after)| *after >= nearest) {
            let after = ConfigDuration(after);
            remark(key, format!("{after} are never over: {ends}; make it much shorter than that"));
        }
    }

    /// What of it may come after the upstream has done what it was asked for.
    fn answers_for(&self, outline: &Outline<'_>, method: &Method) -> bool {
        outline.acts.as_ref().is_some_and(|acts| {
            let may = acts.on.may_take_of(Some(method)).and(&self.comes);
            matches!(acts.result, ActsResult::Answer { .. })
                && !may.and(&Native::PERHAPS_DONE).is_empty()
        })
    }

    /// What a client is not told, for the row of a policy.
    fn hides(&self, outline: &Outline<'_>) -> Option<&'static str> {
        let method = self.route.changing().next().unwrap_or(&Method::POST);
        let may = self.route.may_change() && self.answers_for(outline, method);
        may.then(|| match outline.asks {
            None => "; of a write, too, that may have been carried out",
            Some(_) => "; a write may be carried out by both",
        })
    }

    /// Writes that may have been carried out, and are answered as if nothing had failed.
    fn look_at_writes(&self, outline: &Outline<'_>, remark: &mut dyn FnMut(&'static str, String)) {
        let methods = self.route.changing().filter(|method| self.answers_for(outline, method));
        let methods: Vec<&str> = methods.map(Method::as_str).collect();
        if methods.is_empty() {
            return;
        }
        let methods = methods.join(", ");
        let what = match outline.asks {
            None => format!(
                "answers {methods} that the upstream may have carried out before it \
                             failed, and whose client never hears of that"
            ),
            Some(other) => format!(
                "sends {methods} to `{other}`, too, where the upstream may have \
                                    carried it out before it failed"
            ),
        };
        remark("handle_if", format!("{what}; add `method = [\"GET\", \"HEAD\"]` to it"));
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
            remark(
                "handle_if",
                format!("no policy inside it makes {missing}; leave that out of `failure`"),
            );
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
            Some((name, gone, ActsResult::Answer { .. })) => {
                format!("`{name}` inside it answers {} by itself; put it outside", gone.and(may))
            }
            Some((name, gone, _)) => format!(
                "`{name}` inside it makes `retries-exceeded` of {} where it may repeat; add that \
                 to `failure`",
                gone.and(may)
            ),
            None if may.without_grpc().is_empty() => {
                "it takes nothing; leave the key out for the default".into()
            }
            None => format!("{may} can't come from inside it; leave the key out for the default"),
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

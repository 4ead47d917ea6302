//! What is hardly meant about a policy where it stands, and what would be better.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::inner_part::InnerPart;
use crate::config::ConfigDuration;
use crate::error::Failure;
use crate::native::Native;
use crate::outline::{Acts, ActsResult, Outline};

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

/// The shortest limit around a policy, and whose that is.
pub(super) type OuterLimit = Option<(Duration, Arc<str>)>;

impl InnerPart<'_> {
    pub(super) fn look(
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
    pub(super) fn hides(&self, outline: &Outline<'_>) -> Option<&'static str> {
        let method = self.route.changing().next().unwrap_or(&Method::POST);
        let may = self.route.may_change() && self.answers_for(outline, method);
        may.then_some(match outline.asks {
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

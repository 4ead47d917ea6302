//! Looks at the policies of a route before they run: how often and how long a call may go through
//! them at worst, and what is hardly meant as it is.
//!
//! Each policy says what it does ([`Policy::outline`]). What may come from inside it follows from
//! those further in: a set of statuses and failures, which a policy adds to, and takes from.

mod inner_part;
mod remarks;
mod route;

pub use route::{ReviewedRoute, Worst};

use std::sync::Arc;

use crate::policy::Policy;
use inner_part::InnerPart;

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

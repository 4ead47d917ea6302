//! What a condition may take, and what it takes for certain, before anything has come.

use std::fmt;

use http::Method;

use super::Condition;
use super::tree::{Decider, Part};
use crate::native::Native;

impl Condition {
    /// All that it may take.
    pub(crate) fn may_take(&self) -> Native {
        self.may_take_of(None)
    }

    /// All that it may take of a request with this method, or with any.
    pub(crate) fn may_take_of(&self, method: Option<&Method>) -> Native {
        match &self.decider {
            Decider::Native(native) => native.clone(),
            Decider::Ask { only, .. } => only.clone().unwrap_or(Native::EVERYTHING),
            Decider::Tree(tree) => tree.root.bounds(method).may,
        }
    }

    /// What it takes for certain: a component may decide either way.
    pub(crate) fn must_take(&self) -> Native {
        match &self.decider {
            Decider::Native(native) => native.clone(),
            Decider::Ask { .. } => Native::NOTHING,
            Decider::Tree(tree) => tree.root.bounds(None).must,
        }
    }

    /// The failures that the file names one by one.
    pub(crate) fn named_failures(&self) -> Native {
        let named = match &self.decider {
            Decider::Native(native) => native.without_statuses(),
            Decider::Ask { only: Some(only), .. } => only.without_statuses(),
            Decider::Ask { only: None, .. } | Decider::Tree(_) => Native::NOTHING,
        };
        let is_default = named == self.default.without_statuses();
        let is_any = named == Native::EVERYTHING.without_statuses();
        if is_default || is_any { Native::NOTHING } else { named }
    }

    /// How much of a response body is kept for its components to look at, in bytes.
    pub(crate) fn peeked(&self) -> usize {
        let predicates = match &self.decider {
            Decider::Native(_) => &[][..],
            Decider::Ask { predicate, .. } => std::slice::from_ref(predicate),
            Decider::Tree(tree) => &tree.predicates,
        };
        let peeks = predicates.iter().filter_map(|predicate| predicate.peek());
        peeks.map(|peek| peek.bytes).max().unwrap_or_default()
    }
}

/// `503, timeout`, or that others decide.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decider {
            Decider::Native(native) => {
                native.fmt(f)?;
                match native.own_grpc(&self.default) {
                    Some(statuses) => write!(f, ", by gRPC {statuses}"),
                    None => Ok(()),
                }
            }
            Decider::Ask { only: None, .. } => f.write_str("what a component takes"),
            Decider::Ask { only: Some(only), .. } => write!(f, "what a component takes of {only}"),
            Decider::Tree(tree) => write!(f, "some of {}", tree.root.bounds(None).may),
        }
    }
}

/// The most and the least that a part takes.
struct PartBounds {
    may: Native,
    must: Native,
}

impl Part {
    /// Of a request with this method, or with any.
    fn bounds(&self, method: Option<&Method>) -> PartBounds {
        let within = |may| PartBounds { may, must: Native::NOTHING };
        let exactly = |lists: Native| PartBounds { may: lists.clone(), must: lists };
        match self {
            Self::Lists(lists) => exactly(lists.clone()),
            Self::Method(methods) => match method {
                None => within(Native::EVERYTHING),
                Some(method) if methods.contains(method) => exactly(Native::EVERYTHING),
                Some(_) => exactly(Native::NOTHING),
            },
            Self::Attempt(_) => within(Native::EVERYTHING),
            Self::Header(_) => within(Native::EVERYTHING.without_failures()),
            Self::Component { only, .. } => within(only.clone().unwrap_or(Native::EVERYTHING)),
            Self::Any(parts) => together(parts, method, Native::NOTHING, Native::or),
            Self::All(parts) => together(parts, method, Native::EVERYTHING, Native::and),
            Self::Not(part) => {
                let PartBounds { may, must } = part.bounds(method);
                let rest = |taken| Native::EVERYTHING.but(&taken);
                PartBounds { may: rest(must), must: rest(may) }
            }
        }
    }
}

fn together(
    parts: &[Part],
    method: Option<&Method>,
    none: Native,
    both: fn(&Native, &Native) -> Native,
) -> PartBounds {
    let empty = PartBounds { may: none.clone(), must: none };
    parts.iter().map(|part| part.bounds(method)).fold(empty, |all, part| PartBounds {
        may: both(&all.may, &part.may),
        must: both(&all.must, &part.must),
    })
}

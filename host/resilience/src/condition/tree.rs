//! What decides whether an outcome is taken: lists, a component, or a tree of parts.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use crate::body::LateFailureCause;
use crate::native::Native;
use crate::outcome::{Outcome, Response};
use crate::predicate::Predicate;

#[derive(Clone, Debug)]
pub(super) enum Decider {
    Native(Native),
    Ask {
        predicate: Arc<dyn Predicate>,
        only: Option<Native>,
    },
    /// In a box: hardly any condition is one.
    Tree(Box<Tree>),
}

/// A condition made of parts.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: Part,
    /// The components in it, by index.
    pub(super) predicates: Vec<Arc<dyn Predicate>>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Lists(Native),
    Method(Vec<Method>),
    Header(HeaderPart),
    Attempt(AttemptRange),
    Component { index: usize, only: Option<Native> },
    Any(Vec<Part>),
    All(Vec<Part>),
    Not(Box<Part>),
}

/// A header of the response; without a value: any.
#[derive(Clone, Debug)]
pub(super) struct HeaderPart {
    pub(super) name: HeaderName,
    pub(super) value: Option<HeaderValue>,
}

/// Attempts by their numbers, both ends included. The number 0 is that of no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptRange {
    from: u32,
    to: u32,
}

impl AttemptRange {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_start_matches(['<', '>', '=']);
        let sign = text.strip_suffix(digits)?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u32 = digits.parse().ok().filter(|_| is_number)?;
        let (from, to) = match sign {
            "" | "=" => (number, number),
            _ if number == 0 => return None,
            ">=" => (number, u32::MAX),
            ">" => (number.checked_add(1)?, u32::MAX),
            "<=" => (1, number),
            "<" if number > 1 => (1, number - 1),
            _ => return None,
        };
        Some(Self { from, to })
    }

    fn contains(self, attempt: u32) -> bool {
        (self.from..=self.to).contains(&attempt)
    }
}

/// What is judged.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    pub(super) method: &'a Method,
    pub(super) attempt: u32,
    pub(super) seen: Seen<'a>,
}

/// What is known of it.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    Outcome(&'a Outcome),
    /// Not the outcome, but the response behind it, of which only the status is known.
    Behind(&'a Outcome),
    /// What has become of a response whose head is not there any more.
    Late(LateFailureCause),
}

impl Seen<'_> {
    fn is_in(self, lists: &Native) -> bool {
        match self {
            Self::Outcome(outcome) => lists.takes(outcome),
            Self::Behind(outcome) => lists.takes_behind(outcome),
            Self::Late(cause) => lists.takes_late(cause),
        }
    }
}

/// What would have to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The answer of this component.
    Answer(usize),
    /// What nobody knows any more.
    Head,
}

impl Decider {
    /// Whether it takes what is judged, given what components have `answered`.
    pub(super) fn takes(
        &self,
        judged: Judged<'_>,
        answered: &impl Fn(usize) -> Option<bool>,
    ) -> Result<bool, Missing> {
        match self {
            Self::Native(lists) => Ok(judged.seen.is_in(lists)),
            Self::Ask { only: Some(only), .. } if !judged.seen.is_in(only) => Ok(false),
            Self::Ask { .. } => answered(0).ok_or(Missing::Answer(0)),
            Self::Tree(tree) => tree.takes(judged, answered),
        }
    }

    /// The component of this index.
    pub(super) fn predicate(&self, index: usize) -> Option<&dyn Predicate> {
        match self {
            Self::Native(_) => None,
            Self::Ask { predicate, .. } => Some(&**predicate).filter(|_| index == 0),
            Self::Tree(tree) => tree.predicates.get(index).map(|predicate| &**predicate),
        }
    }

    /// Whether it takes nothing, whatever it is.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Native(lists) if lists.is_empty())
    }
}

impl Tree {
    /// Whether it takes what is judged, given what components have `answered`. Parts that need no
    /// component decide first.
    pub(super) fn takes(
        &self,
        judged: Judged<'_>,
        answered: &impl Fn(usize) -> Option<bool>,
    ) -> Result<bool, Missing> {
        self.root.holds(judged, answered)
    }
}

impl Part {
    fn holds(
        &self,
        judged: Judged<'_>,
        answered: &impl Fn(usize) -> Option<bool>,
    ) -> Result<bool, Missing> {
        let Judged { seen, .. } = judged;
        let is_behind = matches!(seen, Seen::Behind(_));
        let of_head = |has: &dyn Fn(&Response) -> bool| match seen {
            Seen::Outcome(Ok(response)) => Ok(has(response)),
            Seen::Outcome(Err(_)) | Seen::Late(LateFailureCause::Broken(_)) => Ok(false),
            Seen::Behind(_) | Seen::Late(_) => Err(Missing::Head),
        };
        match self {
            Self::Lists(lists) => Ok(seen.is_in(lists)),
            Self::Method(methods) => Ok(methods.contains(judged.method)),
            Self::Header(part) => of_head(&|response| part.is_in(response)),
            Self::Attempt(range) => Ok(range.contains(judged.attempt)),
            Self::Component { only: Some(only), .. } if !is_behind && !seen.is_in(only) => {
                Ok(false)
            }
            Self::Component { .. } if is_behind => Err(Missing::Head),
            Self::Component { index, .. } => answered(*index).ok_or(Missing::Answer(*index)),
            Self::Any(parts) => first(parts, true, judged, answered),
            Self::All(parts) => first(parts, false, judged, answered),
            Self::Not(part) => part.holds(judged, answered).map(|holds| !holds),
        }
    }
}

/// `decisive` if one of the parts comes to that; else its opposite, or what is missing first.
fn first(
    parts: &[Part],
    decisive: bool,
    judged: Judged<'_>,
    answered: &impl Fn(usize) -> Option<bool>,
) -> Result<bool, Missing> {
    let mut missing = None;
    for part in parts {
        match part.holds(judged, answered) {
            Ok(holds) if holds == decisive => return Ok(decisive),
            Ok(_) => {}
            Err(what) => missing = missing.or(Some(what)),
        }
    }
    missing.map_or(Ok(!decisive), Err)
}

impl HeaderPart {
    fn is_in(&self, response: &Response) -> bool {
        let mut values = response.headers.get_all(&self.name);
        match &self.value {
            None => values.next().is_some(),
            Some(wanted) => values.any(|value| value == wanted),
        }
    }
}

#[cfg(test)]
mod tests;

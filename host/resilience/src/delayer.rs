//! How long to wait before asking an upstream again: the third question that a component may
//! answer, beside what is a failure and what to answer instead.
//!
//! A policy that waits has a delay of its own. Before it waits it may ask a [`Delayer`], who often
//! knows better: an upstream that says when it has room again rarely says it in `Retry-After`.

use std::fmt;
use std::time::Duration;

use crate::body::Peek;
use crate::event::ComponentId;
use crate::predicate::Exchange;

/// How long to wait?
pub trait Delayer: Send + Sync + fmt::Debug {
    /// What to wait after this outcome. `own` is what the policy would wait; `count` says for
    /// which retry, or after which opening in a row, from 1.
    fn after(&self, seen: &Exchange<'_>, own: Duration, count: u32) -> DelayDecision;

    /// How much of the response body it wants to see.
    fn peek(&self) -> Option<Peek> {
        None
    }
}

/// What a component says of a delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelayDecision {
    /// The policy's own, also if the component could not be asked.
    Own,
    /// So long in its place, says this version of a component.
    Wait {
        /// How long.
        time: Duration,
        /// Who says so.
        by: ComponentId,
    },
    /// There is nothing to wait for, says this version of a component.
    GiveUp {
        /// Who says so.
        by: ComponentId,
    },
}

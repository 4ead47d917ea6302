//! What a policy asks a component: which function of the contract, and what it is about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{Call, Exchange, KeyQuestion, Outcome, OutcomeExt as _, Slot, clock};
use http::Version;
use tokio::time::Instant;

/// A question of a policy to a component, which the guest may look into while it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestQuestion<'a> {
    pub(crate) call: &'a Call,
    /// Who asks.
    pub(crate) policy: &'a Arc<str>,
    pub(crate) asks: Asks<&'a Outcome>,
    /// When the nearest timeout around the policy ends the call.
    pub(crate) deadline: Option<Instant>,
}

/// What is asked, of which outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asks<O> {
    /// `handle-if`, for this slot.
    Condition(Slot, O),
    /// `respond`.
    Response(O),
    /// `after`.
    Delay {
        outcome: O,
        /// What the policy would wait.
        own: Duration,
        /// The number of the retry or opening.
        count: u32,
    },
    /// `key`: of a call that has come to no outcome yet.
    Key,
}

impl<O> Asks<O> {
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Self::Condition(slot, _) => *slot,
            Self::Response(_) => Slot::Respond,
            Self::Delay { .. } => Slot::Delay,
            Self::Key => Slot::Key,
        }
    }

    /// What it is about.
    pub(crate) fn outcome(&self) -> Option<&O> {
        match self {
            Self::Condition(_, outcome) | Self::Response(outcome) | Self::Delay { outcome, .. } => {
                Some(outcome)
            }
            Self::Key => None,
        }
    }

    pub(crate) fn as_ref(&self) -> Asks<&O> {
        match self {
            Self::Condition(slot, outcome) => Asks::Condition(*slot, outcome),
            Self::Response(outcome) => Asks::Response(outcome),
            Self::Delay { outcome, own, count } => {
                Asks::Delay { outcome, own: *own, count: *count }
            }
            Self::Key => Asks::Key,
        }
    }

    /// The same of another form of the outcome.
    pub(crate) fn map<P>(self, change: impl FnOnce(O) -> P) -> Asks<P> {
        match self {
            Self::Condition(slot, outcome) => Asks::Condition(slot, change(outcome)),
            Self::Response(outcome) => Asks::Response(change(outcome)),
            Self::Delay { outcome, own, count } => {
                Asks::Delay { outcome: change(outcome), own, count }
            }
            Self::Key => Asks::Key,
        }
    }
}

impl<'a> GuestQuestion<'a> {
    /// Whether it is a failure.
    pub(crate) fn condition(seen: &Exchange<'a>) -> Self {
        Self::about(seen, Asks::Condition(seen.slot, seen.outcome))
    }

    /// What to answer instead.
    pub(crate) fn response(seen: &Exchange<'a>) -> Self {
        Self::about(seen, Asks::Response(seen.outcome))
    }

    /// How long to wait.
    pub(crate) fn delay(seen: &Exchange<'a>, own: Duration, count: u32) -> Self {
        Self::about(seen, Asks::Delay { outcome: seen.outcome, own, count })
    }

    fn about(seen: &Exchange<'a>, asks: Asks<&'a Outcome>) -> Self {
        Self { call: seen.call, policy: seen.policy, asks, deadline: seen.deadline() }
    }

    /// Whose call it is.
    pub(crate) fn key(seen: &KeyQuestion<'a>) -> Self {
        let KeyQuestion { call, policy, .. } = *seen;
        Self { call, policy, asks: Asks::Key, deadline: seen.deadline() }
    }

    pub(crate) fn slot(&self) -> Slot {
        self.asks.slot()
    }

    /// What it is about.
    pub(crate) fn outcome(&self) -> Option<&'a Outcome> {
        self.asks.outcome().copied()
    }

    /// The attempt that the outcome came from, from 1; 0 if none was made.
    pub(crate) fn number(&self) -> u32 {
        self.outcome().map_or(0, |outcome| outcome.attempt())
    }

    /// The address that this attempt reached, or tried last.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.call.past(self.number())?.provenance.address
    }

    /// The version of HTTP by which it was made; `None`: it did not come so far.
    pub(crate) fn version(&self) -> Option<Version> {
        self.call.past(self.number())?.version()
    }

    /// Until the nearest timeout around the policy ends the call.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }
}

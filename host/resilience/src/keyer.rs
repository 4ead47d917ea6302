//! Whose call is it? The fourth question that a component may answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Call;
use crate::clock;

/// Whose call is it?
pub trait Keyer: Send + Sync + fmt::Debug {
    /// A value by which calls are told apart. `None`: there is none, or the component could not be
    /// asked.
    fn key(&self, seen: &KeyQuestion<'_>) -> Option<String>;
}

/// A call that a policy wants a key of, before it goes on.
#[derive(Clone, Copy, Debug)]
pub struct KeyQuestion<'a> {
    /// The call.
    pub call: &'a Call,
    /// The policy that asks.
    pub policy: &'a Arc<str>,
    pub(crate) deadline: Option<Instant>,
}

impl<'a> KeyQuestion<'a> {
    /// Of a call that a timeout around the asking policy ends at `deadline`.
    pub fn of(call: &'a Call, policy: &'a Arc<str>, deadline: Option<Instant>) -> Self {
        Self { call, policy, deadline }
    }

    /// When the nearest timeout policy around the asking one ends the request.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Until then.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }
}

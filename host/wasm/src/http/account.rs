//! What a request to a guest came to, told once, whatever ends it: it succeeded, it failed, or its
//! client has left.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Reporter};

use super::{ProcessorTime, Run};
use crate::component::Version;
use crate::fault::Failure;
use crate::slot::Slot;
use crate::wasi::Console;

/// Dropped before it was told how it ended, it ended with its client: neither well nor badly.
pub(super) struct Account {
    slot: Arc<Slot>,
    version: Arc<Version>,
    /// The body may outlive the call.
    reporter: Reporter,
    policy: Box<str>,
    time: Arc<ProcessorTime>,
    console: Console,
    is_told: bool,
}

impl Account {
    pub(super) fn open(
        slot: Arc<Slot>,
        version: Arc<Version>,
        seen: &Exchange<'_>,
        run: &Run,
    ) -> Self {
        Self {
            slot,
            version,
            reporter: seen.call.reporter().clone(),
            policy: seen.policy.into(),
            time: run.time().clone(),
            console: run.console().clone(),
            is_told: false,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.ended();
        self.slot.succeeded_with(&self.version);
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        self.ended();
        self.slot.failed(&self.reporter, &self.policy, &self.version, failure);
    }

    fn ended(&mut self) {
        self.is_told = true;
        self.slot.meters().called(self.time.spent());
        self.slot.printed(&self.reporter, &self.policy, &self.version, self.console.take());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.is_told {
            self.ended();
        }
    }
}

//! Reports the result of a request to a guest exactly once: success, failure, or a client that
//! left.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Reporter};

use super::run::GuestRun;
use super::time::ProcessorTime;
use crate::exchange_copy::ExchangeCopy;
use crate::fault::GuestFailure;
use crate::question::GuestQuestion;
use crate::seat::ledger::Ledger;
use crate::version::Version;
use crate::wasi::console::Console;

/// Receives the result of an answer, once.
pub(super) trait Told {
    fn succeeded(&mut self);
    fn failed(&mut self, failure: GuestFailure);
}

/// Dropped without a result, the client has left: neither a success nor a failure.
pub(super) struct Account {
    ledger: Arc<Ledger>,
    version: Arc<Version>,
    /// The body may outlive the call.
    reporter: Reporter,
    policy: Arc<str>,
    time: Arc<ProcessorTime>,
    console: Console,
    /// The exchange that another version can be asked about. One that may ask other hosts is not
    /// asked again: they would hear of it twice.
    exchange: Option<ExchangeCopy>,
    is_told: bool,
}

impl Account {
    pub(super) fn open(
        ledger: Arc<Ledger>,
        version: Arc<Version>,
        seen: &Exchange<'_>,
        run: &GuestRun,
    ) -> Self {
        let exchange = if version.config().grants_hosts() {
            None
        } else {
            ledger.copy_to_check(&GuestQuestion::response(seen), &version)
        };
        Self {
            ledger,
            version,
            reporter: seen.call.reporter().clone(),
            policy: seen.policy.clone(),
            time: run.time().clone(),
            console: run.console().clone(),
            exchange,
            is_told: false,
        }
    }

    fn ended(&mut self) {
        self.is_told = true;
        self.ledger.meters().called(self.time.spent());
        self.ledger.printed(&self.reporter, &self.policy, &self.version, self.console.take());
    }
}

impl Told for Account {
    fn succeeded(&mut self) {
        self.ended();
        self.ledger.succeeded_with(&self.version);
    }

    fn failed(&mut self, failure: GuestFailure) {
        self.ended();
        let exchange = self.exchange.take();
        self.ledger.failed(&self.reporter, &self.policy, &self.version, failure, exchange);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.is_told {
            self.ended();
        }
    }
}

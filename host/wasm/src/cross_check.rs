//! Cross-checks: an exchange on which a version on probation faulted is put to the version before,
//! which tells whose fault it is.
//!
//! That happens on a thread of its own: a guest that loops must not hold a worker a second time.
//! Each component has one, since one that takes its time must not keep faults of the others from
//! being looked at. It begins with the first fault and ends with the component.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::exchange_copy::ExchangeCopy;
use crate::life::Checked;
use crate::question::GuestQuestion;
use crate::version::Version;

/// How many may wait; more are skipped.
const WAITING: usize = 32;

/// Asks a version about an exchange.
pub(crate) type Put = fn(&GuestQuestion<'_>, &Arc<Version>) -> Checked;

/// Puts exchanges to versions of a component.
pub(crate) struct CrossChecks {
    put: Put,
    /// To the thread, if there is one.
    sender: Mutex<Option<SyncSender<CrossCheck>>>,
}

/// An exchange, the version that it is put to, and who wants to know.
pub(crate) struct CrossCheck {
    pub(crate) exchange: ExchangeCopy,
    pub(crate) against: Arc<Version>,
    pub(crate) tell: Tell,
}

/// Tells what came of it, exactly once.
pub(crate) struct Tell(Option<Box<dyn FnOnce(Checked) + Send>>);

impl Tell {
    pub(crate) fn new(tell: impl FnOnce(Checked) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    fn told(mut self, checked: Checked) {
        self.0.take().into_iter().for_each(|tell| tell(checked));
    }
}

impl Drop for Tell {
    /// It was not its turn, or the thread is gone.
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|tell| tell(Checked::Skipped));
    }
}

impl CrossChecks {
    pub(crate) fn new(put: Put) -> Self {
        Self { put, sender: Mutex::default() }
    }

    /// Puts it to the version, when it is its turn.
    pub(crate) fn begin(&self, check: CrossCheck) {
        if let Some(sender) = self.sender() {
            // What is refused is dropped, which tells. If the thread is gone, there is a new one
            // for the next.
            if let Err(TrySendError::Disconnected(_)) = sender.try_send(check) {
                *self.lock() = None;
            }
        }
    }

    /// `None`: there is no thread to be had.
    fn sender(&self) -> Option<SyncSender<CrossCheck>> {
        let mut sender = self.lock();
        if sender.is_none() {
            let (new, checks) = sync_channel(WAITING);
            let thread = thread::Builder::new().name("fusebox-check".into());
            let put = self.put;
            *sender = thread.spawn(move || work(&checks, put)).is_ok().then_some(new);
        }
        sender.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<SyncSender<CrossCheck>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(checks: &Receiver<CrossCheck>, put: Put) {
    while let Ok(CrossCheck { exchange, against, tell }) = checks.recv() {
        tell.told(exchange.show(|seen| put(seen, &against)));
    }
}

impl fmt::Debug for CrossChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossChecks").finish_non_exhaustive()
    }
}

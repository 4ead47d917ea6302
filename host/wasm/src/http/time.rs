//! The processor time of a guest that gives its thread to others in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::yield_now;
use wasmtime::{Trap, UpdateDeadline};

use crate::thread_time::thread_time;

/// Sums it up over polls. Shared by the task that polls the guest and the store's callback within a
/// poll, on one thread at a time.
#[derive(Debug)]
pub(crate) struct ProcessorTime {
    limit: AtomicU64,
    spent: AtomicU64,
    /// The thread's time when the poll under way began.
    began: AtomicU64,
    /// The poll under way, or the last one, was ended by an epoch and not by the guest.
    is_preempted: AtomicBool,
}

impl ProcessorTime {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit: AtomicU64::new(nanos(limit)),
            spent: AtomicU64::new(0),
            began: AtomicU64::new(0),
            is_preempted: AtomicBool::new(false),
        }
    }

    /// Lets the guest use so much more.
    pub(super) fn allow(&self, more: Duration) {
        self.limit.fetch_add(nanos(more), Relaxed);
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Relaxed))
    }

    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    /// Counts what `poll` takes.
    pub(super) fn count<R>(&self, poll: impl FnOnce() -> R) -> R {
        let began = nanos(thread_time());
        self.began.store(began, Relaxed);
        self.is_preempted.store(false, Relaxed);
        let result = poll();
        self.spent.fetch_add(nanos(thread_time()).saturating_sub(began), Relaxed);
        result
    }

    /// Whether the last poll ended with an epoch, so that the guest could have continued.
    pub(super) fn is_preempted(&self) -> bool {
        self.is_preempted.load(Relaxed)
    }

    /// An epoch has ended within a poll, and the guest still runs: others have their turn, unless
    /// its own time is up.
    pub(super) fn look(&self) -> wasmtime::Result<UpdateDeadline> {
        let poll = nanos(thread_time()).saturating_sub(self.began.load(Relaxed));
        if self.spent.load(Relaxed) + poll >= self.limit.load(Relaxed) {
            return Err(Trap::Interrupt.into());
        }
        self.is_preempted.store(true, Relaxed);
        // A future that wakes itself would be polled many times before the runtime looks at its
        // sockets.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(yield_now())))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

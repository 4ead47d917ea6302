//! Measures calls in processor time of their thread.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Trap, UpdateDeadline};

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// How long a call runs, in processor time of its thread: a guest must not be blamed for time that
/// the system gives to other threads, and a container that has used up its quota is paused for
/// longer than most timeouts.
///
/// Reading that clock is a system call, so it is first read when an epoch ends during a call; most
/// calls never read it.
pub(crate) struct CallClock {
    pub(crate) limit: Duration,
    seen: Option<Duration>,
}

impl CallClock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, seen: None }
    }

    /// An epoch has ended, and the guest still runs.
    pub(crate) fn look(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let now = thread_time();
        let first = *self.seen.get_or_insert(now);
        if now.saturating_sub(first) >= self.limit {
            return Err(Trap::Interrupt.into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

//! Waiting for what has to come: nothing here sleeps and hopes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything is waited for; only a failing test reaches it. On a busy machine the compiler
/// of components, which yields to everything else, may take 34 s to reach a limit of 1 s.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Asks until `found` answers.
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "this never came: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Tells the traffic of a test to end, even when the test fails: without it the test would wait for
/// it for ever.
#[derive(Debug)]
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

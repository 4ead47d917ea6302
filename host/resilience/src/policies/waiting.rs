//! Calls that wait in a policy: counted, or in line for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::call::Call;
use crate::clock;
use crate::event::QueueEvent;
use crate::room::{InLine, Place};

/// A call that waits, until it is dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// It is among those counted.
    pub(super) fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for a place, and tells of it. `None`: there was none by then, or somebody of a higher
/// level has taken the one in line.
pub(super) async fn wait_for_place(
    call: &Call,
    policy: &Arc<str>,
    line: InLine,
    longest: Duration,
) -> Option<Place> {
    let since = clock::now();
    if call.reporter().wants_details() {
        call.emit(policy, QueueEvent::Joined { ahead: line.ahead() });
    }
    let place = timeout(longest, line).await.ok()??;
    call.emit(policy, QueueEvent::Admitted { waited: clock::now() - since });
    Some(place)
}

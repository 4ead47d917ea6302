//! Waiting for clients, before what others wait for is taken.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::call::Call;
use crate::error::Error;

/// The calls that wait for their clients before a policy gives them a place.
///
/// A client may take as long as it likes for its request body, and others want the place. So a call
/// takes none before its body is there: whole, or as much of it as may be kept.
#[derive(Debug, Default)]
pub(crate) struct ClientWaits(AtomicUsize);

impl ClientWaits {
    /// How many wait now.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until the request body of this call is there.
    ///
    /// # Errors
    /// The client has failed to send it.
    pub(crate) async fn gather(&self, call: &Call) -> Result<(), Error> {
        if call.body().is_gathered() {
            return Ok(());
        }
        // Boxed to keep the common path's future small.
        Box::pin(async {
            let _waiting = GatheringCall::begin(&self.0);
            call.body().gather().await
        })
        .await
    }
}

/// A call that waits, until it is dropped.
struct GatheringCall<'a>(&'a AtomicUsize);

impl<'a> GatheringCall<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for GatheringCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

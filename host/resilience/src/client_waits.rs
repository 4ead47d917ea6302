//! Waiting for clients, before what others wait for is taken.
//!
//! A client may take as long as it likes for its request body, and others want the place. So a call
//! takes none before its body is there: whole, or as much of it as may be kept.
//!
//! A call by gRPC is a stream of messages, and what the client says next may depend on what the
//! server has said. So only its first message is waited for, which is all that most calls have; and
//! for a moment only, if nothing of it comes: then it is the server that speaks first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::body::BodyPart;
use crate::call::Call;
use crate::error::Error;
use crate::grpc::is_grpc;

/// For so long after its arrival something of a call by gRPC may be on its way: a client sends the
/// message together with the head, in a packet or two.
const MOMENT: Duration = Duration::from_millis(100);

/// The calls that wait for their clients before a policy gives them a place.
#[derive(Debug, Default)]
pub(crate) struct ClientWaits(AtomicUsize);

impl ClientWaits {
    /// How many wait now.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until the request body of this call is there, as far as it is waited for.
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
            // Whatever its route: it is what the client speaks.
            if is_grpc(&call.head().headers) {
                gather_message(call).await
            } else {
                call.body().gather(BodyPart::Whole).await
            }
        })
        .await
    }
}

async fn gather_message(call: &Call) -> Result<(), Error> {
    let left = MOMENT.saturating_sub(call.elapsed());
    match timeout(left, call.body().gather(BodyPart::FirstByte)).await {
        Ok(begun) => {
            begun?;
            call.body().gather(BodyPart::FirstMessage).await
        }
        Err(_) => Ok(()),
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

//! What happens to the server itself.

use std::time::Duration;

/// Something happened to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerEvent {
    /// All places for connections are taken and none of these is idle: a client has to wait.
    Full {
        /// How many places there are.
        places: usize,
        /// How many clients had to wait since that was last to be told; `None` if that was a
        /// moment ago.
        count: Option<u64>,
    },
    /// All places for handshakes of TLS are taken: the one that has lasted for longest ends.
    HandshakesFull {
        /// How many places there are.
        places: usize,
        /// How many had to end since that was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// A worker is blocked: it gets no more connections, and the process ends if it stays so.
    WorkerStalled {
        /// Its number, from 0.
        worker: usize,
        /// For how long it has been silent.
        silence: Duration,
    },
    /// A worker that was stalled goes on.
    WorkerResumed {
        /// Its number, from 0.
        worker: usize,
        /// For how long it had been silent.
        silence: Duration,
    },
    /// A worker is lost, and the process ends with it.
    WorkerLost {
        /// Its number, from 0.
        worker: usize,
        /// For how long it has been silent; `None` if its thread has ended.
        silence: Option<Duration>,
    },
}

//! A worker's unused connections to one upstream, last in, first out.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use fusebox_resilience::clock;
use tokio::time::Instant;

use super::connection::Connection;

/// A connection that has been idle for so long is looked at with a system call before it is used:
/// the end that its upstream has put to it may not have been noticed yet, and a request that meets
/// it is lost if it can't be repeated.
const LOOK_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    idle_timeout: Duration,
    max_idle: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self { idle: RefCell::default(), idle_timeout, max_idle }
    }

    /// The connection that was used last, if it still looks alive. It may prove dead; then the
    /// request comes back unsent.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            let unused = clock::now() - since;
            if unused >= self.idle_timeout {
                // Those below have been idle for longer still.
                idle.clear();
                return None;
            }
            let is_alive =
                if unused < LOOK_AFTER { connection.looks_alive() } else { connection.is_alive() };
            if is_alive {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn reap(&self) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| {
            idle.connection.looks_alive() && idle.since.elapsed() < self.idle_timeout
        });
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.max_idle {
            idle.push(Idle { connection, since: clock::now() });
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle.borrow().len()).finish_non_exhaustive()
    }
}

/// A connection in use for one exchange. Dropped, the connection is closed.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pool: Rc<Pool>,
    /// Whether the upstream takes further requests on it.
    pub(super) keep_alive: bool,
}

impl Lease {
    /// What comes is read into `buffer`.
    pub(super) fn new(mut connection: Connection, pool: Rc<Pool>, buffer: BytesMut) -> Self {
        connection.buffer = buffer;
        Self { connection, pool, keep_alive: false }
    }

    /// Whether the connection can serve another request once the response has ended: not while a
    /// request body is still being sent on it.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep_alive && self.connection.is_free()
    }

    /// The response has ended. What came after it nobody has asked for, and it would be taken for
    /// the answer to the next request. Returns what it was read into, unless the connection is
    /// of no more use: an unused one holds no memory but its own.
    pub(super) fn give_back(mut self) -> Option<BytesMut> {
        (self.is_reusable() && self.connection.buffer.is_empty()).then(|| {
            let buffer = std::mem::take(&mut self.connection.buffer);
            self.pool.put(self.connection);
            buffer
        })
    }
}

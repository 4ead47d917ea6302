//! A worker's unused connections to one upstream, last in, first out.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::body::{Sent, SentBody};

pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    idle_timeout: Duration,
    max_idle: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection, whose task ends when this is dropped. (Without its sender alone, hyper would go on sending a request body.)
pub(super) struct Connection {
    sender: SendRequest<SentBody>,
    task: AbortHandle,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<SentBody>, task: AbortHandle) -> Self {
        Self { sender, task }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self { idle: RefCell::default(), idle_timeout, max_idle }
    }

    /// The connection that was used last, if it still looks alive. It may prove dead; then the request comes back unsent.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if since.elapsed() >= self.idle_timeout {
                // Those below have been idle for longer still.
                idle.clear();
                return None;
            }
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn reap(&self) {
        self.idle
            .borrow_mut()
            .retain(|idle| !idle.connection.sender.is_closed() && idle.since.elapsed() < self.idle_timeout);
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if !connection.sender.is_closed() && idle.len() < self.max_idle {
            idle.push(Idle { connection, since: Instant::now() });
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
    connection: Connection,
    pool: Rc<Pool>,
    sent: Sent,
}

impl Lease {
    pub(super) fn new(connection: Connection, pool: Rc<Pool>, sent: Sent) -> Self {
        Self { connection, pool, sent }
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<SentBody> {
        &mut self.connection.sender
    }

    /// Whether the connection can serve another request once the response has ended: not while a request body is still being
    /// sent on it.
    pub(super) fn is_reusable(&self) -> bool {
        self.sent.is_whole()
    }

    /// The response has ended.
    pub(super) fn give_back(self) {
        if self.is_reusable() {
            self.pool.put(self.connection);
        }
    }
}

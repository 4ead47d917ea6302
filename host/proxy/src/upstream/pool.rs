//! A worker's unused connections to one upstream, last in, first out.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::body::{Sent, SentBody};

pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    idle_timeout: Duration,
    max_idle: usize,
}

struct Idle {
    sender: SendRequest<SentBody>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self { idle: RefCell::default(), idle_timeout, max_idle }
    }

    /// The connection that was used last, if it still looks alive. It may prove dead; then the request comes back unsent.
    pub(super) fn take(&self) -> Option<SendRequest<SentBody>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { sender, since }) = idle.pop() {
            if since.elapsed() >= self.idle_timeout {
                // Those below have been idle for longer still.
                idle.clear();
                return None;
            }
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    pub(super) fn reap(&self) {
        self.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.idle_timeout);
    }

    fn put(&self, sender: SendRequest<SentBody>) {
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < self.max_idle {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle.borrow().len()).finish_non_exhaustive()
    }
}

/// A connection in use. Dropped, the connection is closed.
pub(super) struct Lease {
    sender: SendRequest<SentBody>,
    pool: Rc<Pool>,
}

impl Lease {
    pub(super) fn new(sender: SendRequest<SentBody>, pool: Rc<Pool>) -> Self {
        Self { sender, pool }
    }

    /// The response has ended. A request body that is still being sent keeps the connection from its next request, so
    /// then it is closed.
    pub(super) fn give_back(self, sent: &Sent) {
        if sent.is_whole() {
            self.pool.put(self.sender);
        }
    }
}

//! A worker's unused connections to one endpoint, last in, first out. While others wait for one
//! (`places.rs`), only they take it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use fusebox_resilience::clock;
use tokio::time::Instant;

use super::connection::UpstreamConnection;
use super::places::UpstreamPlaces;
use crate::buffers::{Buffers, Loan};
use crate::config::UpstreamSettings;
use crate::tunnel::TunnelSide;

pub(super) struct Pool {
    idle: RefCell<Vec<IdleConnection>>,
    idle_timeout: Duration,
    /// 0 from when on it is closed.
    max_idle: Cell<usize>,
    places: Rc<UpstreamPlaces>,
    buffers: Rc<Buffers>,
}

struct IdleConnection {
    connection: UpstreamConnection,
    since: Instant,
}

impl Pool {
    /// Connections in use read into `buffers`; unused ones hold none.
    pub(super) fn new(
        settings: &UpstreamSettings,
        places: Rc<UpstreamPlaces>,
        buffers: Rc<Buffers>,
    ) -> Self {
        Self {
            idle: RefCell::default(),
            idle_timeout: settings.idle_timeout.0,
            max_idle: settings.max_idle.into(),
            places,
            buffers,
        }
    }

    /// Whether there is one, as far as is known.
    pub(super) fn has_some(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    /// The connection that was used last, if nobody waits for it.
    pub(super) fn take(&self) -> Option<UpstreamConnection> {
        if self.places.has_line() { None } else { self.take_in_turn() }
    }

    /// The same for one whose turn it is. Nothing has come on it, neither bytes nor its end. The
    /// kernel is asked, which costs a system call: what the runtime has not been told of yet, above
    /// all on a busy worker, would be taken for the answer to the next request.
    pub(super) fn take_in_turn(&self) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(IdleConnection { connection, since }) = idle.pop() {
            let unused = clock::now() - since;
            if unused >= self.idle_timeout {
                // The others have been idle even longer.
                idle.clear();
                return None;
            }
            if !connection.is_over() && connection.is_alive() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn reap(&self) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|IdleConnection { connection, since }| {
            !connection.is_over() && connection.looks_alive() && since.elapsed() < self.idle_timeout
        });
        let room = 2 * idle.len();
        idle.shrink_to(room);
    }

    /// Closes those that are unused, and from now on those that would be.
    pub(super) fn close(&self) {
        self.max_idle.set(0);
        self.idle.take();
    }

    fn put(&self, connection: UpstreamConnection) {
        connection.spend();
        if connection.is_over() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.max_idle.get() {
            idle.push(IdleConnection { connection, since: clock::now() });
            self.places.look();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle.borrow().len()).finish_non_exhaustive()
    }
}

/// A connection in use for one exchange. Dropping it closes the connection.
pub(super) struct Lease {
    pub(super) connection: UpstreamConnection,
    pool: Rc<Pool>,
    /// Whether the endpoint takes further requests on it.
    pub(super) keep_alive: bool,
    /// Whether it has served a request before.
    pub(super) is_kept: bool,
    /// Of the large buffer that the connection reads into.
    loan: Option<Loan>,
}

impl Lease {
    /// A connection that the pool has kept.
    pub(super) fn kept(connection: UpstreamConnection, pool: &Rc<Pool>) -> Self {
        Self { is_kept: true, ..Self::new(connection, pool) }
    }

    /// A new connection, which goes to the pool afterwards.
    pub(super) fn new(mut connection: UpstreamConnection, pool: &Rc<Pool>) -> Self {
        connection.buffer = pool.buffers.take_read();
        Self { connection, pool: pool.clone(), keep_alive: false, is_kept: false, loan: None }
    }

    /// Reads on within a body. A stream that waits holds no buffer.
    pub(super) fn poll_read(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.connection.poll_read_ready(cx).is_ready() {
            if self.loan.is_none() && self.connection.buffer.is_empty() {
                self.put_buffer();
                let (buffer, loan) = self.pool.buffers.take_large();
                (self.connection.buffer, self.loan) = (buffer, Some(loan));
            }
            self.pool.buffers.make_room(&mut self.connection.buffer, most);
            let read = self.connection.poll_read(cx);
            if read.is_ready() {
                return read;
            }
        }
        if self.loan.is_some() && self.connection.buffer.is_empty() {
            self.put_buffer();
        }
        Poll::Pending
    }

    /// Gives an empty buffer back.
    fn put_buffer(&mut self) {
        let buffer = std::mem::take(&mut self.connection.buffer);
        if let Some(loan) = self.loan.take() {
            self.pool.buffers.put_large(buffer, loan);
        } else if buffer.capacity() > 0 {
            self.pool.buffers.put_read(buffer);
        }
    }

    /// Whether the connection can serve another request after the response: not while a request
    /// body is still being sent.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep_alive && self.connection.is_free()
    }

    /// The connection as a side of a tunnel, and what has come over it. `None`: a request is still
    /// being sent.
    pub(super) fn into_side(self) -> Option<(Box<dyn TunnelSide>, BytesMut)> {
        self.connection.into_side()
    }

    /// Ends the exchange. The connection returns to the pool if it can be used again and nothing
    /// has arrived after the response, which would be taken for the next one.
    pub(super) fn give_back(mut self) {
        if self.is_reusable() && self.connection.buffer.is_empty() {
            self.put_buffer();
            self.pool.put(self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::sync::Arc;

    use tokio::net::TcpStream;

    use super::*;
    use crate::config::{EndpointUrl, UpstreamConfig};
    use crate::upstream::stream;

    #[tokio::test]
    async fn a_connection_with_bytes_that_the_runtime_has_not_seen_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let settings = UpstreamConfig::new(EndpointUrl::parse("http://b").unwrap()).settings;
        let places = UpstreamPlaces::new(2, Arc::default());
        let pool = Pool::new(&settings, places, Rc::default());
        for sends in ["", "HTTP/1.1 200 OK\r\n"] {
            let connection = TcpStream::connect(address).await.unwrap();
            let place = pool.places.take().unwrap();
            let (mut upstream, _) = listener.accept().unwrap();
            pool.put(UpstreamConnection::new(stream::plain(connection), address, place, None));
            // Nothing is awaited from here on, so the runtime asks for no news.
            upstream.write_all(sends.as_bytes()).unwrap();
            assert_eq!(pool.take().is_some(), sends.is_empty(), "{sends}");
        }
    }
}

//! A worker's HTTP/2 connections to one endpoint.
//!
//! A call gets a stream on the first connection that has room. If none has, a connection is made,
//! which all who need one wait for together; whoever finds it full waits for the next. It is given
//! up if nobody waits for it any more. If none may be made they wait in line (`places.rs`).

use std::cell::{Cell, RefCell};
use std::error;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{Error, ErrorKind};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared, WeakShared};

use super::super::connection::UpstreamConnection;
use super::super::places::{UpstreamPlace, UpstreamPlaces};
use super::connection::{SharedConnection, StreamPlace};

/// What making a connection comes to, for all who wait for it.
type Made = Result<SharedWay, Arc<Error>>;

/// What makes a connection.
pub(super) type MakingConnection = LocalBoxFuture<'static, Result<NewConnection, Error>>;

/// A connection that is being made.
type Making = LocalBoxFuture<'static, Made>;

/// A connection that was made, by what the endpoint speaks on it.
pub(super) enum NewConnection {
    Http2(Rc<SharedConnection>),
    Http1(UpstreamConnection),
}

/// The same for all who wait for it.
#[derive(Clone)]
enum SharedWay {
    /// All of them may use it.
    Http2(Rc<SharedConnection>),
    /// The first who takes it has it.
    Http1(Rc<Cell<Option<UpstreamConnection>>>),
}

/// A call's way to the endpoint.
pub(in crate::upstream) enum NewWay {
    /// A place on a connection over HTTP/2.
    Stream(StreamPlace),
    /// A connection over HTTP/1.1.
    Connection(UpstreamConnection),
}

/// A worker's connections to one endpoint.
pub(super) struct Http2Pool {
    /// For so long connections without a stream are kept.
    idle_timeout: Duration,
    connections: RefCell<Vec<Rc<SharedConnection>>>,
    /// The one that is being made, if somebody waits for it.
    making: RefCell<Option<WeakShared<Making>>>,
    places: Rc<UpstreamPlaces>,
}

impl Http2Pool {
    pub(super) fn new(idle_timeout: Duration, places: Rc<UpstreamPlaces>) -> Self {
        let (connections, making) = (RefCell::default(), RefCell::default());
        Self { idle_timeout, connections, making, places }
    }

    /// Whether somebody waits for what comes free.
    pub(super) fn has_line(&self) -> bool {
        self.places.has_line()
    }

    /// Whether a connection has room, as far as is known.
    pub(super) fn has_free_stream(&self) -> bool {
        self.connections.borrow().iter().any(|connection| connection.has_room())
    }

    /// A place on a connection that has room, but for this one.
    pub(super) fn take(&self, not: Option<&Rc<SharedConnection>>) -> Option<StreamPlace> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| self.is_usable(connection));
        let is_other = |connection: &&Rc<_>| not.is_none_or(|not| !Rc::ptr_eq(not, connection));
        let mut others = connections.iter().filter(is_other);
        let connection = others.find(|connection| connection.has_room())?;
        Some(StreamPlace::take(connection.clone()))
    }

    /// A way by the connection that is being made; `make` makes one in `place` if none is. `None`:
    /// others have got it, or its last stream.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) async fn lease(
        self: &Rc<Self>,
        place: Option<UpstreamPlace>,
        make: impl FnOnce(UpstreamPlace) -> MakingConnection,
    ) -> Result<Option<NewWay>, Error> {
        let making = match (self.under_way(), place) {
            (Some(under_way), _) => under_way,
            (None, Some(place)) => self.begin_making(make(place)),
            (None, None) => return Ok(None),
        };
        let made = match making.await.map_err(|error| shared(&error))? {
            SharedWay::Http2(made) => made,
            SharedWay::Http1(made) => return Ok(made.take().map(NewWay::Connection)),
        };
        if made.has_room() {
            return Ok(Some(NewWay::Stream(StreamPlace::take(made))));
        }
        // Others may have been faster, which is no reason to give up.
        if !made.is_over() && (!made.is_open() || made.is_unused_for(Duration::ZERO)) {
            return Err(Error::new(ErrorKind::ConnectionRefused)
                .with_source("no streams allowed on a new connection"));
        }
        Ok(None)
    }

    /// Whether a connection is being made that all who need one wait for together.
    pub(super) fn is_making(&self) -> bool {
        self.under_way().is_some()
    }

    /// That connection.
    fn under_way(&self) -> Option<Shared<Making>> {
        let under_way = self.making.borrow().as_ref().and_then(WeakShared::upgrade);
        // One that has been made is in use.
        under_way.filter(|under_way| under_way.peek().is_none())
    }

    fn begin_making(self: &Rc<Self>, made: MakingConnection) -> Shared<Making> {
        let pool = self.clone();
        let new = async move {
            Ok(match made.await.map_err(Arc::new)? {
                NewConnection::Http2(made) => {
                    pool.connections.borrow_mut().push(made.clone());
                    pool.places.look();
                    SharedWay::Http2(made)
                }
                NewConnection::Http1(made) => SharedWay::Http1(Rc::new(Cell::new(Some(made)))),
            })
        };
        let new = new.boxed_local().shared();
        *self.making.borrow_mut() = new.downgrade();
        new
    }

    /// Adds a new connection, for one call and all others. If it takes no streams, the call is
    /// told when it sends.
    pub(super) fn add(&self, new: Rc<SharedConnection>) -> StreamPlace {
        self.connections.borrow_mut().push(new.clone());
        let place = StreamPlace::take(new);
        self.places.look();
        place
    }

    fn is_usable(&self, connection: &SharedConnection) -> bool {
        let is_usable = connection.is_open()
            && !connection.is_over()
            && !connection.is_unused_for(self.idle_timeout);
        if !is_usable {
            connection.retire();
        }
        is_usable
    }

    /// Closes connections that have been unused for too long.
    pub(super) fn reap(&self) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| self.is_usable(connection));
        let room = 2 * connections.len();
        connections.shrink_to(room);
        // The endpoint may have allowed more streams meanwhile.
        if connections.iter().any(|connection| connection.has_room()) {
            self.places.look();
        }
    }

    /// No connection takes further streams; each ends after its last.
    pub(super) fn close(&self) {
        self.connections.take().iter().for_each(|connection| connection.retire());
    }
}

impl Drop for Http2Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Http2Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Pool")
            .field("connections", &self.connections.borrow())
            .finish_non_exhaustive()
    }
}

/// One of several errors for the same failure.
fn shared(error: &Arc<Error>) -> Error {
    let own = Error::new(error.kind()).with_retry_after(error.retry_after());
    match error::Error::source(error) {
        Some(_) => own.with_source(SharedCause(error.clone())),
        None => own,
    }
}

/// The cause of an error that several have.
#[derive(Debug)]
struct SharedCause(Arc<Error>);

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match error::Error::source(&*self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        error::Error::source(&*self.0)?.source()
    }
}

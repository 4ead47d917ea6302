//! Exchanges with an endpoint over HTTP/2, by the `h2` crate.
//!
//! A worker has one connection to an endpoint until its streams are full, and then another. Each
//! connection has a task that reads and writes for all its streams (`connection.rs`); an exchange
//! talks to that task. Dropping an exchange resets its stream with CANCEL; the connection goes on.
//! A connection ends when it has been unused for `idle_timeout`; when its last stream has ended
//! after the upstream said GOAWAY, or after the end of its life (`life.rs`); and when it is silent
//! although it is asked (`keep_alive.rs`).
//!
//! Memory is bounded on both sides: no more of a request's body is taken from its client than the
//! upstream gives a window for and one piece, which goes with the head; and the upstream gets a
//! window only for what the client has taken.
//!
//! How a stream ends before the response's head, what that counts as, and when the request goes
//! once more, on another connection, without being a further attempt:
//!
//! | what the upstream does | failure | goes once more |
//! |---|---|---|
//! | RST_STREAM with REFUSED_STREAM | `connection_refused` | yes: it was not processed |
//! | GOAWAY that leaves the stream out, whatever its code | `connection_refused` | yes, likewise |
//! | closes the connection, or answers no PING | `connection_terminated` | if it is safe |
//! | RST_STREAM: NO_ERROR, INTERNAL_ERROR, CANCEL | `connection_terminated` | no |
//! | RST_STREAM: CONNECT_ERROR, ENHANCE_YOUR_CALM | `connection_terminated` | no |
//! | RST_STREAM with any other code | `http_protocol_error` | no |
//! | breaks a rule, on the stream or on the connection | `http_protocol_error` | no |
//! | answers in HTTP/1 | `http_protocol_error` | no |
//! | does not agree on `h2` above TLS, where it has to | `tls_protocol_error` | nothing was sent |
//! | sends more than 100 interim responses, or a 101 | `http_protocol_error` | no |
//!
//! It is safe if the request may be repeated, and others had been answered on the connection.
//!
//! After the head these break the body off, with the same failures, but that REFUSED_STREAM is
//! `connection_terminated`. A reset after END_STREAM changes nothing: the response is whole, and
//! the rest of the request is not wanted.

mod body;
mod connection;
mod end;
mod exchange;
mod failure;
mod head;
mod keep_alive;
mod pool;
mod tunnel;
mod upload;
mod watched;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Attempt, BodyHold, Call, EndpointEvent, Error, ErrorKind, Random, Reporter, clock,
};
use futures_util::future::LocalBoxFuture;
use http::Request;
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::connection::UpstreamConnection;
use super::dial::{Dialler, dial};
use super::fields::Fields;
use super::life::ConnectionLife;
use super::places::{UpstreamPlace, UpstreamPlaces};
use super::secured::{is_http2, secure};
use super::shared::SharedUpstream;
use super::shared_endpoint::SharedEndpoint;
use super::stream;
use crate::config::UpstreamConfig;
use crate::tls::{Offer, UpstreamTls};
use exchange::Http2Request;
use pool::{Http2Pool, NewConnection};

pub(super) use connection::{SharedConnection, StreamPlace};
pub(super) use exchange::talk;
pub(super) use failure::Lost;
pub(super) use pool::NewWay;
pub(super) use tunnel::open;

/// The HTTP/2 connections of a worker to an endpoint.
#[derive(Debug)]
pub(super) struct Http2 {
    destination: Rc<Destination>,
    pool: Rc<Http2Pool>,
    /// The address that is reached for by the connection that is made.
    reaching: Rc<Cell<Option<SocketAddr>>>,
}

/// Where connections go to.
#[derive(Debug)]
struct Destination {
    config: Arc<UpstreamConfig>,
    endpoint: Arc<SharedEndpoint>,
    /// `None`: TLS is not spoken.
    tls: Option<Arc<UpstreamTls>>,
    /// Whether it was HTTP/1.1 that was agreed on last.
    is_http1: Cell<bool>,
    random: Random,
}

impl Http2 {
    /// The first exchange makes the first connection.
    pub(super) fn new(
        upstream: &SharedUpstream,
        endpoint: Arc<SharedEndpoint>,
        places: &Rc<UpstreamPlaces>,
    ) -> Self {
        let config = upstream.config.clone();
        let pool = Http2Pool::new(config.settings.idle_timeout.0, places.clone()).into();
        let destination = Destination {
            config,
            tls: upstream.tls_of(&endpoint).cloned(),
            endpoint,
            is_http1: Cell::default(),
            random: Random::with_seed(fastrand::u64(..)),
        };
        Self { destination: destination.into(), pool, reaching: Rc::default() }
    }

    /// Closes connections that have been unused for too long.
    pub(super) fn reap(&self) {
        self.pool.reap();
    }

    /// No connection takes further streams; each ends after its last.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Whether a connection has room for a stream, as far as is known.
    pub(super) fn has_free_stream(&self) -> bool {
        self.pool.has_free_stream()
    }

    /// Whether a connection is being made that all who need one wait for together.
    pub(super) fn is_making(&self) -> bool {
        self.pool.is_making()
    }

    /// Whether a new connection is likely to speak HTTP/1.1, so that it does for one call only.
    pub(super) fn is_http1(&self) -> bool {
        self.destination.is_http1.get()
    }

    /// The request with these fields, with what is held of its body.
    pub(super) fn request(
        &self,
        call: &Call,
        fields: &Fields<'_>,
        hold: Option<BodyHold>,
    ) -> Result<Http2Request, Error> {
        let body = call.body().for_attempt();
        let is_bodiless = body.is_end_stream();
        let length = if is_bodiless { Some(0) } else { body.size_hint().exact() };
        let endpoint = &self.destination.endpoint.config.url;
        let head = head::head(call.head(), fields, endpoint, length)
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?;
        Ok(Http2Request { head, body, is_bodiless, hold })
    }

    /// The request for a tunnel in which this is spoken.
    pub(super) fn connect_request(
        &self,
        call: &Call,
        fields: &Fields<'_>,
        protocol: &str,
    ) -> Result<Request<()>, Error> {
        let endpoint = &self.destination.endpoint.config.url;
        head::connect(call.head(), fields, endpoint, protocol)
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))
    }

    /// A place on a connection that there is, but for this one, if nobody waits for it.
    pub(super) fn take(
        &self,
        attempt: &Attempt<'_>,
        not: Option<&Rc<SharedConnection>>,
    ) -> Option<StreamPlace> {
        if self.pool.has_line() { None } else { self.take_in_turn(attempt, not) }
    }

    /// The same for one whose turn it is.
    pub(super) fn take_in_turn(
        &self,
        attempt: &Attempt<'_>,
        not: Option<&Rc<SharedConnection>>,
    ) -> Option<StreamPlace> {
        let place = self.pool.take(not)?;
        attempt.reaches(place.connection().address);
        Some(place)
    }

    /// A new connection, which all who need one wait for together; in this place, if none is being
    /// made. `None`: others have got it, or what there was of it.
    pub(super) async fn lease(
        &self,
        call: &Call,
        attempt: &Attempt<'_>,
        place: Option<UpstreamPlace>,
        end: Instant,
    ) -> Result<Option<NewWay>, Error> {
        let make = |place| self.connect(call.reporter(), place, end);
        let mut lease = pin!(self.pool.lease(place, make));
        let lease = poll_fn(|cx| {
            let polled = lease.as_mut().poll(cx);
            if let Some(address) = self.reaching.get() {
                attempt.reaches(address);
            }
            polled
        });
        // The connection's own end is the same for the one who makes it, and says more.
        let Ok(leased) = timeout_at(end, lease).await else {
            return Err(ErrorKind::ConnectionTimeout.into());
        };
        let way = leased?;
        match &way {
            Some(NewWay::Stream(place)) => attempt.reaches(place.connection().address),
            Some(NewWay::Connection(connection)) => attempt.reaches(connection.address()),
            None => {}
        }
        Ok(way)
    }

    /// A way by a connection that is made for this call alone. If it turns out to be over HTTP/2,
    /// it is for others as well; unless another call was faster, whose connection has room.
    pub(super) async fn connect_alone(
        &self,
        attempt: &Attempt<'_>,
        place: UpstreamPlace,
        end: Instant,
    ) -> Result<NewWay, Error> {
        match self.destination.connect(place, end, attempt).await? {
            NewConnection::Http1(new) => Ok(NewWay::Connection(new)),
            NewConnection::Http2(new) => {
                let place = match self.take(attempt, None) {
                    Some(other) => {
                        new.retire();
                        other
                    }
                    None => self.pool.add(new),
                };
                Ok(NewWay::Stream(place))
            }
        }
    }

    fn connect(
        &self,
        reporter: &Reporter,
        place: UpstreamPlace,
        end: Instant,
    ) -> LocalBoxFuture<'static, Result<NewConnection, Error>> {
        self.reaching.set(None);
        let dialler = SharedDial { reaching: self.reaching.clone(), reporter: reporter.clone() };
        let destination = self.destination.clone();
        Box::pin(async move {
            let made = destination.connect(place, end, &dialler).await;
            dialler.reaching.set(None);
            made
        })
    }
}

impl Destination {
    /// Makes a connection, until `end` at the latest: whoever comes later must not wait for one
    /// that is stuck. Above TLS all is offered that may be spoken.
    async fn connect(
        &self,
        place: UpstreamPlace,
        end: Instant,
        dialler: &impl Dialler,
    ) -> Result<NewConnection, Error> {
        let Self { config, endpoint, tls, is_http1, random } = self;
        let (settings, url) = (&config.settings, &endpoint.config.url);
        let limit = end.saturating_duration_since(clock::now());
        let named = (config.label(), url);
        let (stream, address) = dial(named, &endpoint.addresses, limit, dialler).await?;
        let life = ConnectionLife::begin(settings, random.fraction());
        let begun = match tls {
            None => {
                let begun = SharedConnection::begin(stream, address, settings, place, life);
                timeout_at(end, begun).await
            }
            Some(tls) => {
                let stream = secure(stream, tls, &url.host, Offer::All, end).await?;
                if !is_http2(&stream) {
                    is_http1.set(true);
                    let halves = stream::secured(stream);
                    let connection = UpstreamConnection::new(halves, address, place, life);
                    return Ok(NewConnection::Http1(connection));
                }
                let begun = SharedConnection::begin(stream, address, settings, place, life);
                let begun = timeout_at(end, begun).await;
                // Not before: whoever came meanwhile would not know of it, and make another one.
                is_http1.set(is_http1.get() && !matches!(begun, Ok(Ok(_))));
                begun
            }
        };
        let begun = begun.unwrap_or_else(|_| Err(ErrorKind::ConnectionTimeout.into()));
        begun.map(NewConnection::Http2)
    }
}

/// Those who wait for a connection together.
struct SharedDial {
    reaching: Rc<Cell<Option<SocketAddr>>>,
    /// Of the call that came first.
    reporter: Reporter,
}

impl Dialler for SharedDial {
    fn reaches(&self, address: SocketAddr) {
        self.reaching.set(Some(address));
    }

    fn emit(&self, event: EndpointEvent) {
        self.reporter.emit_own(event);
    }
}

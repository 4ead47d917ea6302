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
//! upstream gives a window for, and the upstream gets a window only for what the client has taken.
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
//! | does not agree on `h2` above TLS | `tls_protocol_error` | nothing was sent |
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
mod upload;
mod watched;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Attempt, AttemptEvent, BodyHold, Call, EndpointEvent, Error, ErrorKind, Outcome, Random,
    Reporter,
};
use futures_util::future::LocalBoxFuture;
use http_body::Body as _;
use tokio::time::timeout;

use super::dial::{Dialler, dial};
use super::fields::Fields;
use super::life::ConnectionLife;
use super::secured::secure;
use super::shared::SharedUpstream;
use super::shared_endpoint::SharedEndpoint;
use crate::config::UpstreamConfig;
use crate::tls::UpstreamTls;
use connection::{SharedConnection, StreamPlace};
use exchange::{Http2Request, talk};
use pool::Http2Pool;

/// The HTTP/2 connections of a worker to an endpoint.
#[derive(Debug)]
pub(super) struct Http2 {
    config: Arc<UpstreamConfig>,
    endpoint: Arc<SharedEndpoint>,
    /// `None`: TLS is not spoken.
    tls: Option<Arc<UpstreamTls>>,
    pool: Rc<Http2Pool>,
    /// The address that is reached for by the connection that is made.
    reaching: Rc<Cell<Option<SocketAddr>>>,
    random: Random,
}

impl Http2 {
    /// The first exchange makes the first connection.
    pub(super) fn new(upstream: &SharedUpstream, endpoint: Arc<SharedEndpoint>) -> Self {
        let config = upstream.config.clone();
        Self {
            pool: Http2Pool::new(config.settings.idle_timeout.0).into(),
            config,
            tls: upstream.tls_of(&endpoint).cloned(),
            endpoint,
            reaching: Rc::default(),
            random: Random::with_seed(fastrand::u64(..)),
        }
    }

    /// Closes connections that have been unused for too long.
    pub(super) fn reap(&self) {
        self.pool.reap();
    }

    /// No connection takes further streams; each ends after its last.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Dropped before the response's head, it resets the stream.
    pub(super) async fn exchange<'a>(
        &self,
        call: &'a Call,
        attempt: &Attempt<'_>,
        fields: impl Fn() -> Fields<'a>,
    ) -> Outcome {
        let settings = &self.config.settings;
        let hold = call.body().hold();
        let place = self.lease(call, attempt, None).await?;
        let first = place.connection().clone();
        let is_kept = first.has_answered();
        let request = self.request(call, &fields(), None)?;
        let lost = match talk(place, request, call, settings).await {
            Ok(response) => return Ok(response),
            Err(lost) => lost,
        };
        let Some(cause) = lost.goes_again(is_kept, call) else { return Err(lost.into()) };
        let place = self.lease(call, attempt, Some(&first)).await?;
        let request = self.request(call, &fields(), Some(hold))?;
        let attempt = attempt.number();
        call.reporter().emit_own(AttemptEvent::SentAgain { attempt, cause });
        Ok(talk(place, request, call, settings).await?)
    }

    fn request(
        &self,
        call: &Call,
        fields: &Fields<'_>,
        hold: Option<BodyHold>,
    ) -> Result<Http2Request, Error> {
        let body = call.body().for_attempt();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let head = head::head(call.head(), fields, &self.endpoint.config.url, length)
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?;
        Ok(Http2Request { head, body, hold })
    }

    /// A place on another connection than this one. It is made if need be.
    async fn lease(
        &self,
        call: &Call,
        attempt: &Attempt<'_>,
        not: Option<&Rc<SharedConnection>>,
    ) -> Result<StreamPlace, Error> {
        if let Some(place) = self.pool.take(not) {
            attempt.reaches(place.connection().address);
            return Ok(place);
        }
        let mut lease = pin!(self.pool.lease(not, || self.connect(call.reporter())));
        let lease = poll_fn(|cx| {
            let polled = lease.as_mut().poll(cx);
            if let Some(address) = self.reaching.get() {
                attempt.reaches(address);
            }
            polled
        });
        let place = match timeout(self.config.settings.connect_timeout.0, lease).await {
            Ok(place) => place?,
            Err(_) => return Err(ErrorKind::ConnectionTimeout.into()),
        };
        attempt.reaches(place.connection().address);
        Ok(place)
    }

    fn connect(
        &self,
        reporter: &Reporter,
    ) -> LocalBoxFuture<'static, Result<Rc<SharedConnection>, Error>> {
        self.reaching.set(None);
        let dialler = SharedDial { reaching: self.reaching.clone(), reporter: reporter.clone() };
        let (config, endpoint) = (self.config.clone(), self.endpoint.clone());
        let tls = self.tls.clone();
        let chance = self.random.fraction();
        Box::pin(async move {
            let (settings, url) = (&config.settings, &endpoint.config.url);
            let limit = settings.connect_timeout.0;
            let made = timeout(limit, async {
                let named = (config.label(), url);
                let (stream, address) = dial(named, &endpoint.addresses, limit, &dialler).await?;
                let life = ConnectionLife::begin(settings, chance);
                match tls {
                    None => SharedConnection::begin(stream, address, settings, life).await,
                    Some(tls) => {
                        let stream = secure(stream, &tls, &url.host).await?;
                        SharedConnection::begin(stream, address, settings, life).await
                    }
                }
            });
            // Whoever comes later must not wait for one that is stuck.
            let made = made.await.unwrap_or_else(|_| Err(ErrorKind::ConnectionTimeout.into()));
            dialler.reaching.set(None);
            made
        })
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

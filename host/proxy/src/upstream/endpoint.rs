//! An endpoint of an upstream, as one worker reaches it: its connections, and exchanges on them.

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::room::Place;
use fusebox_resilience::{
    Attempt, AttemptEvent, Call, EndpointEvent, EndpointLimit, Error, ErrorKind, Outcome, Random,
    Scope, SentAgainCause, clock,
};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::connection::UpstreamConnection;
use super::dial::dial;
use super::fields::Fields;
use super::http1::talk;
use super::http2::Http2;
use super::life::ConnectionLife;
use super::limits::WorkerShare;
use super::message::Message;
use super::places::{UpstreamPlace, UpstreamPlaces, Waited};
use super::pool::{Lease, Pool};
use super::secured::secure;
use super::shared::SharedUpstream;
use super::shared_endpoint::SharedEndpoint;
use super::stream;
use crate::buffers::Buffers;
use crate::config::{EndpointUrl, UpstreamConfig, UpstreamProtocol, UpstreamSettings};
use crate::deadline;
use crate::tls::{Offer, UpstreamTls};

/// An endpoint of one worker.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) config: Arc<UpstreamConfig>,
    shared: Arc<SharedEndpoint>,
    /// Its URL; each worker has its own `Arc`.
    label: Arc<str>,
    /// `None`: TLS is not spoken.
    tls: Option<Arc<UpstreamTls>>,
    pub(super) pool: Rc<Pool>,
    /// If that is what is spoken, or may be. In a box: most have none.
    http2: Option<Box<Http2>>,
    buffers: Rc<Buffers>,
    random: Random,
    /// Of its connections, whatever is spoken on them.
    pub(super) places: Rc<UpstreamPlaces>,
    is_limited: bool,
}

impl Endpoint {
    /// The first exchange makes the first connection. `buffers` and `share` are the worker's.
    pub(super) fn new(
        upstream: &SharedUpstream,
        shared: Arc<SharedEndpoint>,
        share: WorkerShare,
        buffers: &Rc<Buffers>,
    ) -> Self {
        let config = upstream.config.clone();
        let settings = &config.settings;
        let places = UpstreamPlaces::new(share.of_connections(settings), shared.limits.clone());
        let pool = Pool::new(settings, places.clone(), buffers.clone());
        let is_http2 = match settings.protocol {
            UpstreamProtocol::Auto => shared.config.url.is_secure,
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
        };
        Self {
            label: (&*shared.name.endpoint).into(),
            http2: is_http2.then(|| Http2::new(upstream, shared.clone(), &places).into()),
            tls: upstream.tls_of(&shared).cloned(),
            is_limited: settings.max_in_flight.is_some(),
            places,
            config: config.clone(),
            shared,
            pool: pool.into(),
            buffers: buffers.clone(),
            random: Random::with_seed(fastrand::u64(..)),
        }
    }

    /// Its URL.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What all workers know of it.
    pub(super) fn shared(&self) -> &Arc<SharedEndpoint> {
        &self.shared
    }

    /// Whether it takes only so many attempts at once.
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// Whether an attempt would go ahead at once.
    pub(super) fn has_room(&self) -> bool {
        let has_free_stream = || self.http2.as_ref().is_some_and(|http2| http2.has_free_stream());
        let has_connection = self.places.has_free() || self.pool.has_some() || has_free_stream();
        has_connection && !(self.is_limited && self.shared.limits.are_all_in_flight())
    }

    /// A place for an attempt. `None`: none is needed.
    ///
    /// # Errors
    /// It is full, and was not asked.
    pub(super) async fn enter(
        &self,
        call: &Call,
        scope: &Scope<'_>,
    ) -> Result<Option<Place>, Error> {
        if !self.is_limited {
            return Ok(None);
        }
        let begun = clock::now();
        let longest = self.config.settings.connect_timeout.0;
        let entered = self.shared.limits.enter(call, scope, longest).await;
        entered.inspect_err(|_| call.emit_own_about(0, self.full(EndpointLimit::InFlight, begun)))
    }

    /// A call is turned away that has waited since `begun`.
    fn full(&self, limit: EndpointLimit, begun: Instant) -> EndpointEvent {
        let (name, waited) = (self.shared.name.clone(), clock::now() - begun);
        EndpointEvent::Full { name, limit, waited }
    }

    fn url(&self) -> &EndpointUrl {
        &self.shared.config.url
    }

    /// Closes connections that have been unused for too long or that the endpoint has closed.
    pub(super) fn reap(&self) {
        self.pool.reap();
        if let Some(http2) = &self.http2 {
            http2.reap();
        }
    }

    /// It gets no requests any more: closes connections that are unused, or will be.
    pub(super) fn close(&self) {
        self.pool.close();
        if let Some(http2) = &self.http2 {
            http2.close();
        }
    }

    /// Dropped before the response head, it closes the connection.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    pub(super) fn exchange(
        &self,
        call: &Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'_>,
    ) -> impl Future<Output = Outcome> {
        async move {
            if let Some(http2) = &self.http2 {
                // Boxed, so that an attempt over HTTP/1 is not larger for it.
                return Box::pin(self.exchange_as_agreed(http2, call, attempt, scope)).await;
            }
            let mut message = self.message(call, attempt, scope);
            let mut lease = match self.pool.take() {
                Some(connection) => self.kept(connection, attempt),
                // Boxed to keep the future small: most calls find a connection in the pool.
                None => Box::pin(self.reach(attempt, true)).await?,
            };
            if lease.is_kept {
                let hold = call.request().is_idempotent().then(|| call.body().hold());
                if let Some(outcome) = talk(lease, &mut message, call, &self.config.settings).await
                {
                    return outcome;
                }
                if !message.is_untouched() {
                    message = self.message(call, attempt, scope).holding(hold);
                    let attempt = attempt.number();
                    let cause = SentAgainCause::Died;
                    call.reporter().emit_own(AttemptEvent::SentAgain { attempt, cause });
                }
                lease = Box::pin(self.reach(attempt, false)).await?;
            }
            talk(lease, &mut message, call, &self.config.settings).await.unwrap_or_else(|| {
                // The upstream closed a new connection at once: the same as a refused one.
                Err(Error::new(ErrorKind::ConnectionRefused)
                    .with_source("closed before anything was sent"))
            })
        }
    }

    /// A connection for HTTP/1.1 that is made, or comes free before one may be made, if that is as
    /// good.
    async fn reach(&self, attempt: &Attempt<'_>, may_be_kept: bool) -> Result<Lease, Error> {
        let end = clock::now() + self.config.settings.connect_timeout.0;
        let place = match self.places.take() {
            Some(place) => place,
            None => {
                let look = || self.pool.take_in_turn().filter(|_| may_be_kept);
                match self.wait(attempt, end, look).await? {
                    Waited::Kept(connection) => return Ok(self.kept(connection, attempt)),
                    Waited::Make(place) => place,
                }
            }
        };
        let connection = self.connect(attempt, place, end).await?;
        Ok(Lease::new(connection, &self.pool))
    }

    /// Waits for a place for a connection, or for what `look` finds.
    pub(super) async fn wait<K>(
        &self,
        attempt: &Attempt<'_>,
        end: Instant,
        look: impl Fn() -> Option<K>,
    ) -> Result<Waited<K>, Error> {
        let begun = clock::now();
        let has_free_stream = || self.http2.as_ref().is_some_and(|http2| http2.has_free_stream());
        let has_more = || self.pool.has_some() || has_free_stream();
        let way = self.places.wait(end, look, has_more).await;
        way.inspect_err(|_| attempt.emit(self.full(EndpointLimit::Connections, begun)))
    }

    /// A connection that was kept.
    pub(super) fn kept(&self, connection: UpstreamConnection, attempt: &Attempt<'_>) -> Lease {
        attempt.reaches(connection.address());
        Lease::kept(connection, &self.pool)
    }

    /// Makes a connection for HTTP/1.1.
    pub(super) async fn connect(
        &self,
        attempt: &Attempt<'_>,
        place: UpstreamPlace,
        end: Instant,
    ) -> Result<UpstreamConnection, Error> {
        let limit = end.saturating_duration_since(clock::now());
        let (stream, address) =
            dial((self.config.label(), self.url()), &self.shared.addresses, limit, attempt).await?;
        let halves = match &self.tls {
            None => stream::plain(stream),
            Some(tls) => {
                let host = &self.url().host;
                stream::secured(secure(stream, tls, host, Offer::Http1, end).await?)
            }
        };
        let life = ConnectionLife::begin(&self.config.settings, self.random.fraction());
        Ok(UpstreamConnection::new(halves, address, place, life))
    }

    /// The request as an attempt sends it over HTTP/1.1.
    pub(super) fn message(&self, call: &Call, attempt: &Attempt<'_>, scope: &Scope<'_>) -> Message {
        let fields = self.fields(call, attempt, scope).with_trailers_asked_for();
        Message::new(call, &fields, self.url(), &self.buffers)
    }

    /// Its fields.
    pub(super) fn fields<'a>(
        &'a self,
        call: &'a Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'a>,
    ) -> Fields<'a> {
        let (told, conditions) = (self.told(call, scope), scope.preconditions());
        Fields::new(call, attempt.number(), told, conditions, (&self.config, self.url()))
    }

    /// What the upstream is told of the time that it is waited for.
    fn told(&self, call: &Call, scope: &Scope<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let UpstreamSettings { forward_deadline, deadline_margin, .. } = &self.config.settings;
        if forward_deadline.is_empty() && call.request().deadline().is_none() {
            return Vec::new();
        }
        let Some(end) = scope.deadline(call) else { return Vec::new() };
        let left = end.saturating_duration_since(clock::now());
        let left = left.saturating_sub(deadline_margin.0);
        deadline::told(&call.head().headers, forward_deadline, left)
    }
}

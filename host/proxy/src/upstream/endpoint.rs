//! An endpoint of an upstream, as one worker reaches it: its connections, and exchanges on them.

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{Attempt, AttemptEvent, Call, Error, ErrorKind, Outcome, Scope, clock};
use http::{HeaderName, HeaderValue};
use tokio::time::timeout_at;

use super::addresses::KnownAddresses;
use super::connection::UpstreamConnection;
use super::dial::dial;
use super::http1::talk;
use super::message::Message;
use super::pool::{Lease, Pool};
use super::secured::secure;
use super::shared::SharedUpstream;
use super::stream;
use crate::buffers::Buffers;
use crate::config::{EndpointUrl, UpstreamConfig, UpstreamSettings};
use crate::deadline;
use crate::tls::UpstreamTls;

/// An endpoint of one worker.
#[derive(Debug)]
pub(super) struct Endpoint {
    config: Arc<UpstreamConfig>,
    /// Its place among the endpoints of the upstream.
    place: usize,
    addresses: Arc<KnownAddresses>,
    /// Its URL; each worker has its own `Arc`.
    label: Arc<str>,
    /// `None`: TLS is not spoken.
    tls: Option<Arc<UpstreamTls>>,
    pool: Rc<Pool>,
    buffers: Rc<Buffers>,
}

/// A connection for an exchange, by what is spoken on it.
enum Transport {
    Http1(UpstreamConnection),
}

impl Endpoint {
    /// The first exchange makes the first connection. `buffers` are the worker's.
    pub(super) fn new(shared: &SharedUpstream, place: usize, buffers: &Rc<Buffers>) -> Self {
        let config = shared.config.clone();
        let (idle_timeout, max_idle) = (config.settings.idle_timeout.0, config.settings.max_idle);
        let pool = Pool::new(idle_timeout, max_idle, buffers.clone());
        Self {
            label: config.endpoints[place].url.url.as_str().into(),
            tls: shared.tls.clone().filter(|_| config.endpoints[place].url.is_secure),
            config,
            place,
            addresses: shared.addresses(place).clone(),
            pool: pool.into(),
            buffers: buffers.clone(),
        }
    }

    /// Its URL.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    fn url(&self) -> &EndpointUrl {
        &self.config.endpoints[self.place].url
    }

    /// Closes connections that have been unused for too long or that the endpoint has closed.
    pub(super) fn reap(&self) {
        self.pool.reap();
    }

    /// Dropped before the response head, it closes the connection.
    pub(super) async fn exchange(
        &self,
        call: &Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'_>,
    ) -> Outcome {
        let mut message = self.message(call, attempt, scope);
        if let Some(Transport::Http1(connection)) = self.kept() {
            attempt.reaches(connection.address);
            let lease = Lease::kept(connection, &self.pool);
            let hold = call.request().is_idempotent().then(|| call.body().hold());
            if let Some(outcome) = talk(lease, &mut message, call, &self.config.settings).await {
                return outcome;
            }
            if !message.is_untouched() {
                message = self.message(call, attempt, scope).holding(hold);
                let attempt = attempt.number();
                call.reporter().emit_own(AttemptEvent::SentAgain { attempt });
            }
        }
        // Boxed to keep the future small: most calls find a connection in the pool.
        let Transport::Http1(connection) = Box::pin(self.connect(attempt)).await?;
        let lease = Lease::new(connection, &self.pool);
        talk(lease, &mut message, call, &self.config.settings).await.unwrap_or_else(|| {
            // The upstream closed a new connection at once: the same as a refused one.
            Err(Error::new(ErrorKind::ConnectionRefused)
                .with_source("closed before anything was sent"))
        })
    }

    fn kept(&self) -> Option<Transport> {
        self.pool.take().map(Transport::Http1)
    }

    async fn connect(&self, attempt: &Attempt<'_>) -> Result<Transport, Error> {
        let limit = self.config.settings.connect_timeout.0;
        let end = clock::now() + limit;
        let (stream, address) =
            dial((self.config.label(), self.url()), &self.addresses, limit, attempt).await?;
        let halves = match &self.tls {
            None => stream::plain(stream),
            Some(tls) => match timeout_at(end, secure(stream, tls, &self.url().host)).await {
                Ok(stream) => stream::secured(stream?),
                Err(_) => {
                    return Err(Error::new(ErrorKind::ConnectionTimeout)
                        .with_source("the handshake of TLS took too long"));
                }
            },
        };
        Ok(Transport::Http1(UpstreamConnection::new(halves, address)))
    }

    fn message(&self, call: &Call, attempt: &Attempt<'_>, scope: &Scope<'_>) -> Message {
        let (told, conditions) = (self.told(call, scope), scope.preconditions());
        let addressed = (&*self.config, self.url());
        Message::new(call, attempt.number(), told, conditions, addressed, &self.buffers)
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

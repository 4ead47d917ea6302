//! Exchanges with an endpoint that may speak HTTP/2: because the file says so, or because it may
//! agree on it above TLS (ALPN).
//!
//! Where it may agree, each new connection offers both, and what it agrees on is spoken on it. So
//! an endpoint may change its mind with a restart, or have addresses that differ. While it is not
//! known to speak HTTP/1.1, all who need a connection wait for one together, which is the only one
//! if it turns out to be over HTTP/2; if not, each makes its own. What wants an upgrade goes by a
//! connection that offers HTTP/1.1 only.

use std::rc::Rc;

use fusebox_resilience::{
    Attempt, AttemptEvent, BodyHold, Call, Error, ErrorKind, Outcome, Response, Scope,
    SentAgainCause, clock,
};
use http::{Version, header};
use http_body::Body as _;

use super::endpoint::Endpoint;
use super::http1;
use super::http2::{self, Http2, Lost, NewWay, SharedConnection, StreamPlace};
use super::limits::full;
use super::places::Waited;
use super::pool::Lease;
use crate::config::UpstreamProtocol;

/// A way to the endpoint that one exchange goes.
enum AgreedWay {
    Stream(StreamPlace),
    Connection(Lease),
}

/// What was sent and may be sent again.
struct Again {
    /// Why; `None`: nothing of it was sent.
    cause: Option<SentAgainCause>,
    /// What is told if there is no other way.
    error: Error,
}

impl AgreedWay {
    /// The connection, if others use it too.
    fn shared(&self) -> Option<Rc<SharedConnection>> {
        match self {
            Self::Stream(place) => Some(place.connection().clone()),
            Self::Connection(_) => None,
        }
    }

    /// What it may be sent again from, if need be.
    fn hold(&self, call: &Call) -> Option<BodyHold> {
        let may_go_again = match self {
            Self::Stream(_) => true,
            Self::Connection(lease) => lease.is_kept && call.request().is_idempotent(),
        };
        may_go_again.then(|| call.body().hold())
    }
}

impl Endpoint {
    /// Dropped before the response head, it closes the connection or resets the stream.
    pub(super) async fn exchange_as_agreed(
        &self,
        http2: &Http2,
        call: &Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'_>,
    ) -> Outcome {
        // What few exchanges need is boxed: whoever begins one moves its future about.
        let way = match self.known_way(http2, call, attempt) {
            Some(way) => way,
            None => Box::pin(self.new_way(http2, call, attempt, None)).await?,
        };
        let (hold, first) = (way.hold(call), way.shared());
        let again = match self.go(way, http2, call, attempt, scope, None).await {
            Ok(outcome) => return outcome,
            Err(again) => again,
        };
        let way = match first.as_ref().and_then(|first| http2.take(attempt, Some(first))) {
            Some(place) => AgreedWay::Stream(place),
            None => match Box::pin(self.new_way(http2, call, attempt, first.as_ref())).await {
                // There is no other.
                Err(full) if full.kind() == ErrorKind::BulkheadFull => return Err(again.error),
                way => way?,
            },
        };
        if let Some(cause) = again.cause {
            let attempt = attempt.number();
            call.reporter().emit_own(AttemptEvent::SentAgain { attempt, cause });
        }
        let gone = Box::pin(self.go(way, http2, call, attempt, scope, hold)).await;
        gone.unwrap_or_else(|again| Err(again.error))
    }

    /// By a connection that there is, and nobody waits for.
    fn known_way(&self, http2: &Http2, call: &Call, attempt: &Attempt<'_>) -> Option<AgreedWay> {
        if self.places.has_line() { None } else { self.way_in_turn(http2, call, attempt) }
    }

    /// The same for one whose turn it is.
    fn way_in_turn(&self, http2: &Http2, call: &Call, attempt: &Attempt<'_>) -> Option<AgreedWay> {
        if !self.wants_http1(call)
            && let Some(place) = http2.take_in_turn(attempt, None)
        {
            return Some(AgreedWay::Stream(place));
        }
        let connection = self.pool.take_in_turn()?;
        Some(AgreedWay::Connection(self.kept(connection, attempt)))
    }

    /// By a connection that is made, or that others have made meanwhile, but not this one; or by
    /// one that comes free before one may be made.
    async fn new_way(
        &self,
        http2: &Http2,
        call: &Call,
        attempt: &Attempt<'_>,
        not: Option<&Rc<SharedConnection>>,
    ) -> Result<AgreedWay, Error> {
        let end = clock::now() + self.config.settings.connect_timeout.0;
        let wants_http1 = self.wants_http1(call);
        loop {
            let joins = !wants_http1 && !http2.is_http1() && http2.is_making();
            let mut place = if joins { None } else { self.places.take() };
            if place.is_none() && !joins {
                // What is sent again does not wait for what it was sent on.
                if not.is_some() {
                    return Err(full("no other connection"));
                }
                match self.wait(attempt, end, || self.way_in_turn(http2, call, attempt)).await? {
                    Waited::Kept(way) => return Ok(way),
                    Waited::Make(free) => place = Some(free),
                }
            }
            let new = match place {
                Some(place) if wants_http1 => {
                    Some(NewWay::Connection(self.connect(attempt, place, end).await?))
                }
                Some(place) if http2.is_http1() => {
                    Some(http2.connect_alone(attempt, place, end).await?)
                }
                place => http2.lease(call, attempt, place, end).await?,
            };
            match new {
                Some(NewWay::Stream(place)) => return Ok(AgreedWay::Stream(place)),
                Some(NewWay::Connection(new)) => {
                    return Ok(AgreedWay::Connection(Lease::new(new, &self.pool)));
                }
                None => {}
            }
            if let Some(place) = http2.take(attempt, not) {
                return Ok(AgreedWay::Stream(place));
            }
        }
    }

    /// Whether it is to go over HTTP/1.1, where there is a choice.
    fn wants_http1(&self, call: &Call) -> bool {
        let may_agree = self.config.settings.protocol == UpstreamProtocol::Auto;
        may_agree && call.head().headers.contains_key(header::UPGRADE)
    }

    /// Sends the request and awaits the response's head.
    async fn go(
        &self,
        way: AgreedWay,
        http2: &Http2,
        call: &Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'_>,
        hold: Option<BodyHold>,
    ) -> Result<Outcome, Again> {
        let settings = &self.config.settings;
        attempt.goes_by_http2(matches!(way, AgreedWay::Stream(_)));
        match way {
            AgreedWay::Stream(place) => {
                let is_kept = place.connection().has_answered();
                match self.go_by_stream(place, http2, call, attempt, scope, hold).await {
                    Ok(response) => Ok(Ok(response)),
                    Err(lost) => match lost.goes_again(is_kept, call) {
                        Some(cause) => Err(Again { cause: Some(cause), error: lost.into() }),
                        None => Ok(Err(lost.into())),
                    },
                }
            }
            AgreedWay::Connection(lease) => {
                let is_kept = lease.is_kept;
                let mut message = self.message(call, attempt, scope).holding(hold);
                if let Some(outcome) = http1::talk(lease, &mut message, call, settings).await {
                    return Ok(outcome);
                }
                let cause = (!message.is_untouched()).then_some(SentAgainCause::Died);
                // The upstream closed a new connection at once: the same as a refused one.
                let error = Error::new(ErrorKind::ConnectionRefused)
                    .with_source("closed before anything was sent");
                if is_kept { Err(Again { cause, error }) } else { Ok(Err(error)) }
            }
        }
    }

    async fn go_by_stream(
        &self,
        place: StreamPlace,
        http2: &Http2,
        call: &Call,
        attempt: &Attempt<'_>,
        scope: &Scope<'_>,
        hold: Option<BodyHold>,
    ) -> Result<Response, Lost> {
        let settings = &self.config.settings;
        let fields = self.fields(call, attempt, scope);
        if let Some(protocol) = tunnel(call) {
            if place.takes_tunnels() {
                let head = http2.connect_request(call, &fields, protocol).map_err(Lost::Failed)?;
                drop(fields);
                return http2::open(place, head, call, settings).await;
            }
            // To a client of HTTP/2 an answer as to any request would look like a tunnel.
            if call.head().version == Version::HTTP_2 {
                let error = Error::new(ErrorKind::ProtocolError);
                let error = error.with_source("the upstream opens no tunnels over HTTP/2");
                return Err(Lost::Failed(error));
            }
        }
        let request = http2.request(call, &fields, hold).map_err(Lost::Failed)?;
        drop(fields);
        http2::talk(place, request, call, settings).await
    }
}

/// What is to be spoken in a tunnel that a call asks for. Who sends a body first gets none over
/// HTTP/2.
fn tunnel(call: &Call) -> Option<&str> {
    let protocol = call.head().headers.get(header::UPGRADE)?.to_str().ok()?;
    let first = protocol.split(',').next().unwrap_or_default().trim();
    call.body().for_attempt().is_end_stream().then_some(first)
}

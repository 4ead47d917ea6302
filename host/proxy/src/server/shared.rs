//! What the connections of a worker share.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::clock;
use tokio::time::Instant;

use super::date::Dates;
use super::handshake_turns::HandshakeTurns;
use super::idle::IdleQueue;
use super::shutdown::Shutdown;
use crate::config::ListenerConfig;
use crate::handler::RequestHandler;
use crate::tls::ListenerTls;

/// So many requests of one connection are begun without a look at the others: a client that sends
/// many at once must not delay its neighbours. The runtime looks for what has come on other
/// connections after 61 turns, so a neighbour waits for at most 244 such requests.
pub(super) const TURN: u32 = 4;

/// The part of `max_age` by which a connection ends earlier at most, so that those that began
/// together do not end together.
const AGE_JITTER: f64 = 0.1;

/// How long requests are still taken on that may have been on their way when a connection was to
/// end: a round trip.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What the connections of a worker share.
pub(super) struct Shared {
    pub(super) handler: Rc<RequestHandler>,
    pub(super) limits: ListenerConfig,
    pub(super) shutdown: Rc<Shutdown>,
    pub(super) idle: Rc<IdleQueue>,
    pub(super) dates: Dates,
    /// `None`: clients do not speak TLS.
    pub(super) tls: Option<Arc<ListenerTls>>,
    /// Of handshakes of TLS.
    pub(super) turns: Rc<HandshakeTurns>,
}

impl Shared {
    /// When a connection that begins now has been open for long enough.
    pub(super) fn old_at(&self) -> Option<Instant> {
        self.limits.max_age.map(|age| {
            let part = 1.0 - AGE_JITTER * self.handler.random().fraction();
            clock::now() + age.0.mul_f64(part)
        })
    }
}

//! The connections of clients.

use fusebox_resilience::{ConnectionEvent, ConnectionLimit, Http2Fault};
use prometheus_client::metrics::counter::Counter;

use super::family::{Counters, Families, of};

#[derive(Debug)]
pub(super) struct ClientCounters {
    connections_ended: Counters<1>,
    streams_ended: Counters<1>,
    connection_faults: Counters<1>,
    pub(super) connections_delayed: Counter,
}

impl ClientCounters {
    /// All series are there from the start.
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        let counters = Self {
            connections_ended: new
                .counters("connections_ended", "Connections of clients that a limit ended"),
            streams_ended: new
                .counters("streams_ended", "Streams of clients over HTTP/2 that a limit ended"),
            connection_faults: new.counters(
                "connection_faults",
                "Connections of clients over HTTP/2 that ended for what the client did",
            ),
            connections_delayed: new.register(
                "connections_delayed",
                "Clients that had to wait until a connection ended or became idle",
                Counter::default(),
            ),
        };
        for limit in ConnectionLimit::ALL {
            of(&counters.connections_ended, [("limit", limit.key().into())]);
        }
        for limit in ConnectionLimit::OF_STREAMS {
            of(&counters.streams_ended, [("limit", limit.key().into())]);
        }
        for fault in Http2Fault::ALL {
            of(&counters.connection_faults, [("fault", fault.name().into())]);
        }
        counters
    }

    /// The counter of an event; `None` if it is counted otherwise.
    pub(super) fn counter(&self, event: &ConnectionEvent) -> Option<Counter> {
        Some(match event {
            ConnectionEvent::Ended { limit, .. } => {
                of(&self.connections_ended, [("limit", limit.key().into())])
            }
            ConnectionEvent::StreamEnded { limit, .. } => {
                of(&self.streams_ended, [("limit", limit.key().into())])
            }
            ConnectionEvent::Http2Failed { fault, .. } => {
                of(&self.connection_faults, [("fault", fault.name().into())])
            }
            // Of requests without a route (`routes.rs`), and of handshakes (`tls.rs`).
            ConnectionEvent::Refused { .. }
            | ConnectionEvent::StreamRefused { .. }
            | ConnectionEvent::Secured { .. }
            | ConnectionEvent::HandshakeFailed { .. } => return None,
        })
    }
}

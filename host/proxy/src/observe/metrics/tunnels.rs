//! Connections that have switched to another protocol, by route.

use std::sync::Arc;

use fusebox_resilience::{TunnelEnd, TunnelEvent};

use super::family::{Counters, Families, Gauges, of};

#[derive(Debug)]
pub(super) struct Tunnels {
    open: Gauges<1>,
    ended: Counters<2>,
    bytes: Counters<2>,
}

impl Tunnels {
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        Self {
            open: new.gauges(
                "tunnels",
                "Tunnels that are open: connections that have switched to another protocol",
            ),
            ended: new.counters("tunnels_ended", "Tunnels that have ended, by how"),
            bytes: new.counters(
                "tunnel_bytes",
                "Bytes that tunnels carried from clients (in) and to them (out)",
            ),
        }
    }

    /// Makes the series of a route appear, at 0.
    pub(super) fn announce(&self, route: &Arc<str>) {
        of(&self.open, [("route", route.into())]);
        for end in TunnelEnd::ALL {
            of(&self.ended, [("route", route.into()), ("end", end.name().into())]);
        }
        for direction in ["in", "out"] {
            of(&self.bytes, [("route", route.into()), ("direction", direction.into())]);
        }
    }

    pub(super) fn observe(&self, route: &Arc<str>, event: &TunnelEvent) {
        let open = || of(&self.open, [("route", route.into())]);
        match *event {
            TunnelEvent::Opened { .. } => {
                open().inc();
            }
            TunnelEvent::Moved { received, sent } => {
                for (direction, bytes) in [("in", received), ("out", sent)] {
                    let labels = [("route", route.into()), ("direction", direction.into())];
                    of(&self.bytes, labels).inc_by(bytes);
                }
            }
            TunnelEvent::Ended { end, .. } => {
                open().dec();
                of(&self.ended, [("route", route.into()), ("end", end.name().into())]).inc();
            }
        }
    }
}

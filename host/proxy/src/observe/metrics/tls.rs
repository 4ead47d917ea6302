//! Handshakes of TLS, and the files of certificates.

use fusebox_resilience::{CertificateEvent, ConnectionEvent, EventKind, HandshakeFailure};
use prometheus_client::metrics::counter::Counter;

use super::family::{Counters, Families, Labels, of};

/// The versions of TLS that clients may speak.
const VERSIONS: [&str; 2] = ["1.2", "1.3"];

#[derive(Debug)]
pub(super) struct TlsCounters {
    handshakes: Counters<2>,
    failed: Counters<1>,
    certificates: Counters<2>,
}

impl TlsCounters {
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        Self {
            handshakes: new.counters("tls_handshakes", "Handshakes of TLS that ended well"),
            failed: new
                .counters("tls_handshakes_failed", "Handshakes of TLS that failed, by the reason"),
            certificates: new.counters(
                "certificate_loads",
                "Times that a changed file of certificates was read, and taken or rejected",
            ),
        }
    }

    /// Makes the series of handshakes appear, at 0.
    pub(super) fn announce_handshakes(&self) {
        for version in VERSIONS {
            for is_resumed in [false, true] {
                of(&self.handshakes, handshake(version, is_resumed));
            }
        }
        for reason in HandshakeFailure::ALL {
            of(&self.failed, [("reason", reason.name().into())]);
        }
    }

    /// Makes the series of a file of certificates appear, at 0.
    pub(super) fn announce_certificate(&self, file: &str) {
        for result in ["replaced", "rejected"] {
            of(&self.certificates, load(file, result));
        }
    }

    /// The counter of an event, if it is of TLS.
    pub(super) fn counter(&self, kind: &EventKind) -> Option<Counter> {
        Some(match kind {
            &EventKind::Connection(ConnectionEvent::Secured { version, is_resumed }) => {
                of(&self.handshakes, handshake(version, is_resumed))
            }
            EventKind::Connection(ConnectionEvent::HandshakeFailed { reason, .. }) => {
                of(&self.failed, [("reason", reason.name().into())])
            }
            EventKind::Certificate(CertificateEvent::Replaced { file, .. }) => {
                of(&self.certificates, load(file, "replaced"))
            }
            EventKind::Certificate(CertificateEvent::Rejected { file, .. }) => {
                of(&self.certificates, load(file, "rejected"))
            }
            _ => return None,
        })
    }
}

fn handshake(version: &'static str, is_resumed: bool) -> Labels<2> {
    let resumed = if is_resumed { "true" } else { "false" };
    [("version", version.into()), ("resumed", resumed.into())]
}

fn load(file: &str, result: &'static str) -> Labels<2> {
    [("file", file.to_owned().into()), ("result", result.into())]
}

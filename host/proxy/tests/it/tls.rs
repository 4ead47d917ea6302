//! Clients over TLS.

mod agreed;
mod certificates;
mod clients;
mod endings;
mod files;
mod handshakes;
mod http2;
mod upstreams;

use std::fs;
use std::sync::Arc;

use fusebox_dev::{Authority, Issued, Wire};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::support::{Proxy, ROUTE};

/// The table of a proxy with one certificate.
const TLS: &str = "[listener.tls]\ncertificates = [{ cert = 'b.pem', key = 'b.key' }]\n";

/// A proxy whose clients speak TLS, and who signs its certificate, which is for `b.example`.
struct SecuredProxy {
    proxy: Proxy,
    authority: Authority,
    issued: Issued,
}

impl SecuredProxy {
    /// `config` goes on after the table of TLS.
    #[track_caller]
    fn before(origin: &impl std::fmt::Display, config: &str) -> Self {
        Self::with_files(origin, &[], config)
    }

    #[track_caller]
    fn with_files(origin: &impl std::fmt::Display, files: &[(&str, &[u8])], config: &str) -> Self {
        let authority = Authority::new("ours");
        let issued = authority.issue("b", &["b.example"]);
        let own = [("b.pem", issued.cert.as_bytes()), ("b.key", issued.key.as_bytes())];
        let files = [&own, files].concat();
        let config = format!("log = {{ level = 'debug' }}\n{TLS}{config}{ROUTE}");
        let proxy = Proxy::with_files(origin, &files, &config);
        Self { proxy, authority, issued }
    }

    /// A client that trusts its authority.
    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client(None).into()
    }

    #[track_caller]
    fn connect(&self) -> Wire {
        self.connect_by(&self.client())
    }

    #[track_caller]
    fn connect_by(&self, client: &Arc<ClientConfig>) -> Wire {
        self.proxy.connect().securing(client, "b.example").expect("a handshake")
    }
}

/// The certificate that the other side has shown.
#[track_caller]
fn shown(wire: &Wire) -> CertificateDer<'static> {
    let chain = wire.session().state().peer_certificates().expect("a certificate");
    chain[0].clone().into_owned()
}

#[track_caller]
fn own(issued: &Issued) -> CertificateDer<'static> {
    issued.parts().0.remove(0)
}

/// Puts these files in the place of those before, each at once.
#[track_caller]
fn replace(proxy: &Proxy, files: &[(&str, &str)]) {
    for (name, content) in files {
        let new = proxy.path(&format!("{name}.new"));
        fs::write(&new, content).expect("a file");
        fs::rename(new, proxy.path(name)).expect("a file");
    }
}

fn failed(reason: &str) -> String {
    format!("fusebox_tls_handshakes_failed_total{{reason=\"{reason}\"}}")
}

fn handshakes(version: &str, resumed: bool) -> String {
    format!("fusebox_tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}}")
}

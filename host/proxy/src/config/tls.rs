//! `[listener.tls]`, and `tls` of an upstream.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::table::{Keys, defaults, table};
use super::values;

table! {
    /// `[listener.tls]`: clients speak TLS.
    #[derive(Clone, Debug)]
    pub struct ListenerTlsConfig {
        /// The certificates, chosen by the name that a client asks for. The first one is for
        /// clients that ask for another name, or for none.
        pub certificates: Vec<CertificateFiles> = certificates(),
        /// The oldest version of TLS: `1.2` or `1.3`.
        pub min_version: TlsVersion = or(TlsVersion::V12),
        /// The file with the certificates of those who may sign clients' certificates. Default:
        /// clients are not asked for one.
        pub client_ca: Option<PathBuf> = parsed(values::file),
        /// Whether a client must have a certificate: `required` or `optional`. Default: `required`
        /// with `client_ca`.
        pub client_auth: Option<ClientAuth> = optional(),
        /// Whether upstreams are told the client's certificate, in `x-forwarded-client-cert`.
        pub forward_client_cert: bool = or(false),
        /// Whether a request has to be for the name that its connection was made for.
        pub strict_sni: bool = or(false),
        /// Whether a client gets tickets, by which it resumes its session.
        pub session_tickets: bool = or(true),
        /// The number of handshakes at once, on all workers; at one more, the one that has lasted
        /// for longest ends. With fewer, a flood leaves honest clients no time.
        pub max_handshakes: usize = within(10_000, 1..=1_000_000),
    }
}

table! {
    /// A certificate and its key, as PEM.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct CertificateFiles {
        /// The certificate, followed by those between it and the root.
        pub cert: PathBuf = file_name("of a certificate"),
        /// Its private key.
        pub key: PathBuf = file_name("of its private key"),
    }
}

table! {
    /// `tls` of an upstream: how it is asked over TLS.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
    pub struct UpstreamTlsConfig {
        /// The file with the certificates of those who may sign the upstream's. Default: those
        /// whom the system trusts.
        pub ca: Option<PathBuf> = parsed(values::file),
        /// The file with the certificate that the upstream is shown. Default: none.
        pub cert: Option<PathBuf> = parsed(values::file),
        /// The file with its private key.
        pub key: Option<PathBuf> = parsed(values::file),
        /// The name that the upstream's certificate has to be for, and that it is asked for.
        /// Default: the host in the URL.
        pub server_name: Option<String> = parsed(values::server_name),
        /// Whether the upstream's certificate is looked at.
        pub verify: bool = or(true),
        /// The oldest version of TLS: `1.2` or `1.3`.
        pub min_version: TlsVersion = or(TlsVersion::V12),
    }
}

impl Default for UpstreamTlsConfig {
    fn default() -> Self {
        defaults()
    }
}

impl UpstreamTlsConfig {
    /// The certificate that the upstream is shown.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(CertificateFiles { cert, key })
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// It may have one; a wrong one is refused all the same.
    Optional,
    /// It must.
    Required,
}

impl Keys<'_, '_> {
    fn certificates(&mut self, key: &str) -> Option<Vec<CertificateFiles>> {
        const EXPECTED: &str = "expected a list such as [{ cert = \"b.pem\", key = \"b.key\" }]";
        let path = self.path_of(key);
        if !self.is_there(key) {
            self.reader.error(&path, format!("missing; {EXPECTED}"));
            return None;
        }
        let length = self.reader.document.length(&path, "a list");
        let length = self.reader.report(length)?;
        if length == 0 {
            self.reader.error(&path, format!("is empty; {EXPECTED}"));
        }
        let read = |at| self.reader.table(&format!("{path}[{at}]"));
        let certificates: Vec<_> = (0..length).filter_map(read).collect();
        (certificates.len() == length && length > 0).then_some(certificates)
    }

    fn file_name(&mut self, key: &str, of: &str) -> Option<PathBuf> {
        let name = |text: &str| values::file(text).ok();
        self.required(key, &format!("the name of the file {of}"), name)
    }
}

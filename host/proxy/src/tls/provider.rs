//! What rustls is made with.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as made_with;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as made_with;
use rustls::server::ProducesTickets;
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, CipherSuite, SupportedProtocolVersion};

use crate::config::TlsVersion;

/// What does the arithmetic, with AES-128 in front of the other ciphers, as browsers and Go have
/// it. Its hash is SHA-256, for which processors have instructions: with SHA-384, which goes with
/// AES-256, a handshake takes a sixth longer.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = made_with::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_preferred(suite.suite()));
        provider.into()
    });
    PROVIDER.clone()
}

/// What seals tickets of sessions, with keys that change.
pub(super) fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    made_with::Ticketer::new()
}

fn is_preferred(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// All versions from this one on.
pub(super) fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
    match least {
        TlsVersion::V12 => ALL_VERSIONS,
        TlsVersion::V13 => &NEWEST,
    }
}

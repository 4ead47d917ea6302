//! What rustls is made with.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};

use crate::config::TlsVersion;

/// What does the arithmetic.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ring::default_provider()));
    PROVIDER.clone()
}

/// All versions from this one on.
pub(super) fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
    match least {
        TlsVersion::V12 => ALL_VERSIONS,
        TlsVersion::V13 => &NEWEST,
    }
}

//! TLS, by certificates that are read from files. rustls does the rest.

mod failure;
mod listener;
mod pem;
mod provider;
mod watch;

pub(crate) use failure::TlsFailure;
pub(crate) use listener::HTTP_2;
pub use listener::{CertificateStatus, ListenerTls};
pub(crate) use watch::watch;

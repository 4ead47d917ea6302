//! TLS, by certificates that are read from files. rustls does the rest.

mod failure;
mod listener;
mod pair;
mod pem;
mod places;
mod provider;
mod upstream;
mod watch;

pub(crate) use failure::TlsFailure;
pub(crate) use listener::HTTP_2;
pub use listener::ListenerTls;
pub use pair::CertificateStatus;
pub(crate) use upstream::Offer;
pub use upstream::UpstreamTls;
pub(crate) use watch::{Reloads, watch};

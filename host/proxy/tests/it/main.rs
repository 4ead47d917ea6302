//! The real proxy, real sockets: what a client and an operator can see.

mod admin;
#[cfg(feature = "author")]
mod author;
mod cli;
mod compiling;
mod components;
mod errors;
mod forwarding;
mod hostile;
mod http_components;
mod lifecycle;
mod policies;
mod regressions;
mod routing;
mod support;

//! The real proxy, real sockets: what a client and an operator can see.

mod admin;
mod cli;
mod compiling;
mod components;
mod documents;
mod errors;
mod forwarding;
mod hostile;
mod http_components;
mod lifecycle;
mod policies;
mod policy;
mod regressions;
mod routing;
mod support;

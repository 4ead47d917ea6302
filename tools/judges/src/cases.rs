//! The odd requests that are judged.

#[path = "../../../host/http1/tests/it/requests.rs"]
mod requests;

pub(crate) use requests::{FAMILIES, OddRequest};

/// What the codec takes, and the proxy refuses when it looks for a route.
pub(crate) const REFUSED_LATER: [&str; 6] = [
    "targets: with a user",
    "targets: an asterisk",
    "connections: an expectation that nobody knows",
    "hosts: no host",
    "hosts: two hosts",
    "hosts: an odd host",
];

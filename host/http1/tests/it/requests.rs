//! Odd, hostile and pipelined requests, one connection each, as data: what this crate makes of
//! them, and where others make something else of them.

#[path = "requests/chunks.rs"]
mod chunks;
#[path = "requests/connections.rs"]
mod connections;
#[path = "requests/framing.rs"]
mod framing;
#[path = "requests/lines.rs"]
mod lines;
#[path = "requests/odd.rs"]
mod odd;
#[path = "requests/targets.rs"]
mod targets;

pub(crate) use odd::OddRequest;

/// The families, by name.
pub(crate) const FAMILIES: [(&str, &[OddRequest]); 10] = [
    ("lengths", framing::LENGTHS),
    ("codings", framing::CODINGS),
    ("desync", framing::DESYNC),
    ("chunks", chunks::CHUNKS),
    ("trailers", chunks::TRAILERS),
    ("lines", lines::LINES),
    ("targets", targets::TARGETS),
    ("versions", targets::VERSIONS),
    ("connections", connections::CONNECTIONS),
    ("hosts", connections::HOSTS),
];

//! The real proxy, real sockets: what a client and an operator can see.

mod admin;
mod admin_access;
#[cfg(feature = "author")]
mod author;
mod blame;
mod cache;
mod chaos;
mod cli;
mod compiling;
mod components;
mod deadlines;
mod delays_and_keys;
mod departures;
mod documents;
mod endpoint_limits;
mod endpoints;
mod errors;
mod forwarding;
mod fuzzing;
mod grpc;
mod grpc_streams;
mod heads;
mod hedges;
mod hostile;
mod http2;
mod http2_connections;
mod http2_misbehaving;
mod http2_upstreams;
mod http_components;
mod kept_connections;
mod keys;
mod last_hop;
mod lifecycle;
mod limits;
mod load;
mod memory;
#[cfg(target_os = "linux")]
mod neighbours;
mod overload;
mod overload_live;
mod overtaking;
mod places;
mod policies;
mod proxied;
mod queues;
mod regressions;
mod routing;
mod shortage;
mod slow_clients;
mod smuggling;
mod support;
mod tls;
mod tunnels;
mod upstreams;
#[cfg(target_os = "linux")]
mod workers;

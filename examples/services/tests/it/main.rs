//! The services and the demonstration as they are run: their binaries, over sockets on free ports.

mod grpc;
mod name_server;
mod service_a;
mod service_b;
mod support;
mod tour;

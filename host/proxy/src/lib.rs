//! fusebox: a resilience proxy whose failure predicates and fallbacks are WebAssembly components.
//!
//! In the order in which a request passes them:
//!
//! - [`server`]: the acceptor, the workers and their connections
//! - `handler`: one request: route, call, pipeline, reply
//! - [`route`]: which pipeline and upstream it gets
//! - [`headers`]: which headers end at the proxy, and which it adds
//! - the pipeline: the crate `fusebox-resilience`; components answer its questions through
//!   `fusebox-wasm`
//! - [`upstream`]: sends the request to the upstream
//! - [`reply`]: what the client gets when there is no upstream response
//!
//! Around it:
//!
//! - [`config`]: what the configuration file says; [`read`](mod@read) reads and checks it,
//!   [`compile`](mod@compile) turns it into what runs ([`running`])
//! - [`observe`]: events become log lines and metrics
//! - `admin`: the second listener, [`client`]: its client; `watch`: looks for changed component
//!   files
//! - [`tls`]: TLS, by certificates that are read from files; `certificate`: what one says
//! - [`code_cache`]: where compiled components are stored
//! - `author`: tools for authors of components, with the feature of that name
//! - [`sockets`]: options of all sockets
//! - [`allocator`]: the program's memory
//! - [`proxy`]: the whole, as the program and the tests run it

mod admin;
pub mod allocator;
#[cfg(feature = "author")]
pub mod author;
pub mod buffers;
mod certificate;
pub mod client;
pub mod code_cache;
pub mod compile;
pub mod config;
pub mod deadline;
mod frames;
mod grpc;
mod handler;
pub mod headers;
mod interim;
pub mod observe;
pub mod priority;
pub mod proxy;
pub mod read;
pub mod reply;
pub mod route;
mod route_review;
pub mod running;
mod seldom;
mod sending;
pub mod server;
pub mod sockets;
mod stall;
mod stream_side;
pub mod tls;
mod tunnel;
pub mod upstream;
mod watch;
mod watched;
mod websocket;

//! fusebox: a resilience proxy whose failure predicates and fallbacks are WebAssembly components.
//!
//! In the order in which a request meets them:
//!
//! - [`server`]: the acceptor, the workers and their connections
//! - `handler`: one request: route, call, pipeline, reply
//! - [`route`]: which pipeline and upstream it gets
//! - [`headers`]: what ends at this hop, what this hop adds
//! - the pipeline itself: the crate `fusebox-resilience`, whose questions components answer through
//!   `fusebox-wasm`
//! - [`upstream`]: the only way out
//! - [`reply`]: what the client sees when there is no upstream response
//!
//! and around it:
//!
//! - [`config`]: what the file says; [`compile`](mod@compile): from that to what runs
//! - [`observe`]: events become log lines and metrics
//! - `admin`: the second listener, [`client`] its client; `watch`: component files that change
//! - [`code_cache`]: where compiled components are kept
//! - `author`: the tools of those who write components, with the feature of that name
//! - [`sockets`]: what every socket gets
//! - [`proxy`]: all of it together, as the program and the tests run it

mod admin;
#[cfg(feature = "author")]
pub mod author;
pub mod client;
pub mod code_cache;
pub mod compile;
pub mod config;
mod handler;
pub mod headers;
pub mod observe;
pub mod proxy;
pub mod reply;
pub mod route;
pub mod server;
pub mod sockets;
mod stall;
pub mod upstream;
mod watch;

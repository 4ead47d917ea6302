//! WebAssembly components as the predicates and responders of fusebox-resilience.
//!
//! # The life of a component
//!
//! 1. [`Components::load`] reads each file, compiles it, refuses what it may not import or does not
//!    export, starts it once and asks it about made-up outcomes. What passed takes the seat
//!    under its name, as generation 1.
//! 2. A policy is built with [`Components::predicate`] or [`Components::responder`], which hold the
//!    seat's ledger.
//! 3. When the policy asks, the worker takes its own instance of the current version (or starts
//!    one), lends it the exchange, and calls it: synchronously, for as long as `timeout` allows.
//!    What the guest wants to know it asks for; nothing crosses before. The instance stays with the
//!    worker for the next call.
//! 4. A call that traps, overruns, asks for too much or answers nonsense costs only itself: its
//!    instance is dropped, `ComponentFaulted` says why, and `on_error` answers.
//! 5. [`Components::reload`] and [`Components::push`] give the seat to a new version, off the
//!    workers. Calls under way end on the old one, whose instances each worker drops with
//!    [`Components::refresh_instances`] when [`Components::changed`] fires. A bad version changes
//!    nothing.
//! 6. A new version is on probation: if it faults too often, the one before is put back.
//!    [`Components::roll_back`] does it by hand. A version that has proved itself and then keeps
//!    faulting is set aside, and tried again now and then.
//!
//! # What may block
//!
//! Loading, reloading, pushing and inspecting compile, for up to many seconds: keep them off the
//! workers. Asking never blocks: no function that a guest of the contract can import waits, and a
//! standard HTTP component (`http.rs`) gives its worker back while it waits.
//!
//! # Doors
//!
//! The root has what a proxy needs, [`child`] the compiling child, and `author`, with the feature
//! of that name, what those need who write components.

mod artifact;
mod attempt;
#[cfg(feature = "author")]
pub mod author;
mod bindings;
mod bounds;
mod cases;
pub mod child;
mod code_cache;
mod compiler;
mod components;
mod config;
mod contract;
mod convert;
mod engine;
mod errors;
mod exports;
mod fault;
mod grants;
mod http;
mod instance;
mod life;
mod limits;
mod meters;
mod pool;
mod predicate;
mod probe;
mod responder;
mod runtime;
mod seat;
mod status;
mod store;
mod thread_time;
mod throttle;
mod ticker;
mod version;
mod wasi;

pub use artifact::LARGEST_FILE;
pub use code_cache::CodeCache;
pub use compiler::Compiler;
pub use components::Components;
pub use config::grant::{Grant, HttpHost};
pub use config::probation::Probation;
pub use config::{ComponentConfig, Isolation, OnError};
pub use contract::WIT;
pub use life::ComponentStanding;
pub use meters::CallHistogram;
pub use seat::{Reload, RollBack};
pub use status::{ComponentRejection, ComponentStatus};

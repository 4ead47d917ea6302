//! WebAssembly components as the predicates and responders of fusebox-resilience.
//!
//! # The life of a component
//!
//! 1. [`Components::load`] reads each file, compiles it, checks its imports and exports, starts it
//!    once and makes trial calls. A component that passes takes the seat of its name, as generation
//!    1.
//! 2. A policy is built with [`Components::predicate`] and its like, which hold the seat's ledger.
//! 3. When the policy asks, the worker takes its own instance of the current version (or starts
//!    one), lends it the question, and calls it: synchronously, for as long as `timeout` allows.
//!    The guest asks for the data that it needs; nothing is copied before. The instance stays with
//!    the worker for the next call.
//! 4. A call that traps, overruns, exceeds a limit or gives an invalid answer fails alone: its
//!    instance is dropped, the event `ComponentFaulted` says why, and `on_error` answers.
//! 5. [`Components::reload`] and [`Components::push`] give the seat to a new version, off the
//!    workers. Calls under way end on the old one, whose instances each worker drops with
//!    [`Components::refresh_instances`] when [`Components::changed`] fires. An unacceptable version
//!    changes nothing. Newer content ends the admission under way.
//! 6. A new version is on probation: if it faults too often on what the previous one answers, that
//!    is restored.
//!    [`Components::roll_back`] does the same by hand. A proven version that keeps faulting is
//!    quarantined, and gets occasional trial calls.
//!
//! # What may block
//!
//! Loading, reloading, pushing and inspecting compile, for up to many seconds: keep them off the
//! workers. Asking never blocks: no function that a guest of the contract can import waits, and a
//! standard HTTP component (`http.rs`) gives its worker back while it waits.
//!
//! # Doors
//!
//! The root is for the proxy, [`child`] for the compiling child, and `author`, with the feature of
//! that name, for the tools of component authors.

mod artifact;
mod attempt;
#[cfg(feature = "author")]
pub mod author;
mod bindings;
mod bounds;
#[cfg_attr(
    not(feature = "author"),
    expect(dead_code, unreachable_pub, reason = "authors use more of it than swaps do")
)]
mod cases;
pub mod child;
mod code_cache;
mod compiler;
mod components;
mod config;
mod contract;
mod convert;
mod cross_check;
mod delayer;
mod engine;
mod errors;
mod exchange_copy;
mod exports;
mod fault;
mod grants;
mod http;
mod instance;
mod keyer;
mod life;
mod limits;
mod memory;
mod meters;
mod overtaken;
mod pool;
mod predicate;
mod probe;
mod question;
mod responder;
mod runtime;
mod seat;
mod shortage;
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
pub use memory::ComponentMemory;
pub use meters::CallHistogram;
pub use seat::reload::{Reload, RollBack};
pub use status::{ComponentRejection, ComponentStatus};

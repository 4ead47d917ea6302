//! Real components in the real engine. Guests are WAT in the test that uses them, or the ones that
//! `make policies` builds.

mod answers;
mod cases;
mod compiling;
mod contract;
mod delays_and_keys;
mod faults;
mod guest;
mod life;
mod loading;
mod memory;
mod rust_guests;
mod support;
mod swapping;
mod wasi;

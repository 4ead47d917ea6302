//! Checks the shape of the repository's Rust code:
//!
//! - no file imports, directly or through others, a file that imports it ([`circles`]);
//! - no type name is declared twice among the crates ([`names`]);
//! - no line is longer than 100 columns ([`lines`]);
//! - `unsafe` is where `SECURITY.md` says that it is ([`unsafety`]).
//!
//! A file imports another if a `use` or an inline path in it leads to something in the other's
//! module. Names are not followed through re-exports: whoever takes a name from `lib.rs` imports
//! `lib.rs`. A `mod` declaration is no import, so a module may use its children as long as they
//! take what they need from where it is defined. What is compiled for tests only (`#[cfg(test)]`)
//! does not count.

pub mod circles;
pub mod lines;
mod modules;
pub mod names;
mod source;
mod tokens;
pub mod tree;
pub mod unsafety;

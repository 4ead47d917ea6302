//! The tools of those who write components: `fusebox component`.
//!
//! A component is written in a folder with its source, [`component.toml`](manifest::Manifest), its
//! cases and whatever its language's tools want.

mod build;
mod command;
mod manifest;
mod scaffold;
mod subject;
mod test;

pub use self::command::ComponentArguments;

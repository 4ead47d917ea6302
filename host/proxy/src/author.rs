//! The tools of those who write components: `fusebox component`.
//!
//! A component is written in a folder with its source, `component.toml`, its cases and the files of
//! its language's tools.

mod build;
mod command;
mod manifest;
mod scaffold;
mod subject;
mod test;

pub use self::command::ComponentArguments;

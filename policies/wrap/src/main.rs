//! Makes a component of a core module: `wrap MODULE COMPONENT`.
//!
//! wit-bindgen embeds the world in a custom section of the module. The `wasm32-wasip2` target does this step in its linker;
//! `wasm32-unknown-unknown` leaves it to us.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use wit_component::ComponentEncoder;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let module = arguments.next().context("expected `wrap MODULE COMPONENT`")?;
    let component = arguments.next().context("expected `wrap MODULE COMPONENT`")?;
    let bytes = fs::read(&module).with_context(|| module.display().to_string())?;
    let encoded = ComponentEncoder::default().validate(true).module(&bytes)?.encode()?;
    fs::write(&component, encoded).with_context(|| component.display().to_string())
}

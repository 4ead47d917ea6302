//! Core modules are taken too, if they say which world they are for.
//!
//! wit-bindgen embeds that in a custom section, whatever the language. For `wasm32-wasip2` the
//! linker then makes the component; `wasm32-unknown-unknown` and `wasm32-wasip1` leave it to us,
//! and what the latter imports of WASI's first preview is translated by the adapter that belongs to
//! our wasmtime.

use anyhow::{Context as _, Result, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// The name of the section that wit-bindgen makes begins so.
const WORLD: &str = "component-type";

/// The component of a core module.
///
/// # Errors
/// It does not say what it exports, or does not export it.
pub(crate) fn into_component(module: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        has_world(module)?,
        "a core module that does not say which world it is for: build it with wit-bindgen, or as \
         a component"
    );
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|mut encoder| encoder.encode())
        .context("no component can be made of the core module")
}

/// Whether a core module says which world it is for.
///
/// # Errors
/// It can't be read.
pub(crate) fn has_world(module: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload?
            && section.name().starts_with(WORLD)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

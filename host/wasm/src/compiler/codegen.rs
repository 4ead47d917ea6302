//! From WebAssembly to machine code, here and now.

use std::borrow::Cow;

use wasmtime::Engine;

use super::{steps, wrap};
use crate::engine::anyhow_of;

/// The version and layer fields of a core module.
pub(crate) const MODULE: [u8; 4] = [1, 0, 0, 0];
/// And of a component.
pub(crate) const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// Compiles a component, or a core module that can become one, here and now.
pub(crate) fn code_of(engine: &Engine, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let is_module = bytes.get(4..8) == Some(&MODULE);
    let component =
        if is_module { Cow::Owned(wrap::into_component(bytes)?) } else { Cow::Borrowed(bytes) };
    engine.precompile_component(&steps::in_steps(&component)?).map_err(anyhow_of)
}

//! Memory is filled and copied in steps, so that a guest can be cut off between two of them.
//!
//! Epochs are checked where a loop or a function begins. `memory.fill`, `memory.copy` and
//! `memory.init` are one instruction each, however much they move: 64 MiB of fresh memory keep a
//! worker for 100 ms. So before a component is compiled, each of these instructions becomes the
//! call of a function, added at the end of its module, that does the same in a loop. A move of a
//! small constant length stays as it is.
//!
//! Everything else is copied unchanged. One difference remains: a move that runs out of bounds
//! traps after it has written the part within bounds; no instance outlives its trap.

mod function;
mod module;
mod sections;

use anyhow::{Context as _, Result};

use self::module::module;
use self::sections::{COMPONENT, CORE_MODULE, HEADER, sections, with_sections};

/// Bytes of a step: at a tenth of what memory can do, and with every page fresh, half a
/// millisecond.
const STEP: u32 = 256 << 10;

const LAYER_OF_COMPONENT: [u8; 2] = [1, 0];

/// How deep components may be nested. The tools nest them twice.
const DEPTH: usize = 32;

/// The same component, or the same module, in which no instruction moves much memory at once.
///
/// # Errors
/// It can't be read.
pub(super) fn in_steps(wasm: &[u8]) -> Result<Vec<u8>> {
    rewritten(wasm, STEP, DEPTH)
}

fn rewritten(wasm: &[u8], step: u32, depth: usize) -> Result<Vec<u8>> {
    if wasm.get(6..HEADER) == Some(&LAYER_OF_COMPONENT) {
        component(wasm, step, depth)
    } else {
        module(wasm, step)
    }
}

fn component(wasm: &[u8], step: u32, depth: usize) -> Result<Vec<u8>> {
    let depth = depth
        .checked_sub(1)
        .with_context(|| format!("components are nested more than {DEPTH} deep"))?;
    with_sections(wasm, &sections(wasm)?, |section| {
        Ok(match section.id {
            CORE_MODULE | COMPONENT => rewritten(section.content, step, depth)?.into(),
            _ => section.content.into(),
        })
    })
}

#[cfg(test)]
mod tests;

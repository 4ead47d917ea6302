//! A binary as the list of its sections.

use std::borrow::Cow;

use anyhow::Result;
use wasm_encoder::{RawSection, Section as _};
use wasmparser::BinaryReader;

/// Magic number, version, and the layer that tells a component from a module.
pub(super) const HEADER: usize = 8;

pub(super) const CUSTOM: u8 = 0;

/// Those of modules.
pub(super) const TYPES: u8 = 1;
pub(super) const IMPORTS: u8 = 2;
pub(super) const FUNCTIONS: u8 = 3;
pub(super) const MEMORIES: u8 = 5;
pub(super) const CODE: u8 = 10;

/// Those of components.
pub(super) const CORE_MODULE: u8 = 1;
pub(super) const COMPONENT: u8 = 4;

#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) id: u8,
    pub(super) content: &'a [u8],
}

pub(super) fn sections(wasm: &[u8]) -> Result<Vec<Section<'_>>> {
    let mut reader = BinaryReader::new(wasm, 0);
    reader.read_bytes(HEADER)?;
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()?;
        sections.push(Section { id, content: reader.read_bytes(length as usize)? });
    }
    Ok(sections)
}

/// The same sections, but those that `change` has something in place of.
pub(super) fn with_sections<'a>(
    wasm: &[u8],
    sections: &[Section<'a>],
    mut change: impl FnMut(Section<'a>) -> Result<Cow<'a, [u8]>>,
) -> Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(wasm.len() + wasm.len() / 8);
    whole.extend_from_slice(&wasm[..HEADER]);
    for section in sections {
        RawSection { id: section.id, data: &change(*section)? }.append_to(&mut whole);
    }
    Ok(whole)
}

//! A component's file: read within bounds, known by its digest, compiled.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::compiler::codegen::{COMPONENT, MODULE};
use crate::compiler::limits::CompileLimits;
use crate::compiler::{CompiledComponent, Compiler};
use crate::overtaken::Overtaken;

/// The largest component, in bytes: three times the largest guest seen.
pub const LARGEST_FILE: u64 = 64 << 20;

/// The content of a file of at most so many bytes.
///
/// # Errors
/// It can't be read, is none that ends, or is larger.
pub(crate) fn read_regular(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    // Opening a pipe would block until a writer opens it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "is not a regular file");
    let ensure_fits = |length: u64| {
        ensure!(length <= largest, "larger than {} MiB", largest >> 20);
        Ok(())
    };
    // Not read in vain.
    ensure_fits(metadata.len())?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long if it grows while it is read, or
    // says nothing of its length.
    let read = file.take(largest + 1).read_to_end(&mut bytes)?;
    ensure_fits(read as u64)?;
    Ok(bytes)
}

/// The content of a file, and its digest.
pub(crate) struct Artifact {
    bytes: Vec<u8>,
    digest: Arc<str>,
}

impl Artifact {
    /// Reads `file`.
    ///
    /// # Errors
    /// It can't be read, or is larger than 64 MiB.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        read_regular(file, LARGEST_FILE).map(Self::new)
    }

    /// Of these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, digest: digest.into() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its SHA-256 in hex.
    pub(crate) fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Holds it against the digest that the configuration asks for.
    pub(crate) fn check_digest(&self, pinned: Option<&str>) -> anyhow::Result<()> {
        match pinned {
            Some(pinned) if !pinned.eq_ignore_ascii_case(&self.digest) => {
                bail!("expected sha256 `{pinned}`, found `{}`", self.digest)
            }
            _ => Ok(()),
        }
    }

    /// Compiles it, unless that was done before. Slow: up to 18 s of one core for the largest guest
    /// languages.
    ///
    /// # Errors
    /// It is not a valid component, takes more than `limits` to compile, or is overtaken.
    pub(crate) fn compile(
        &self,
        compiler: &Compiler,
        engine: &Engine,
        limits: CompileLimits,
        overtaken: &Overtaken,
    ) -> anyhow::Result<CompiledComponent> {
        match (self.bytes.get(..4), self.bytes.get(4..8)) {
            (Some(b"\0asm"), Some(kind))
                if [COMPONENT, MODULE].iter().any(|known| known == kind) => {}
            (Some(b"\0asm"), Some(_)) => {
                bail!("is WebAssembly of an unknown version, expected a component")
            }
            (Some(b"\0asm"), None) => {
                bail!("is cut off after {} bytes, expected a component", self.bytes.len())
            }
            (Some(b"\x7fELF"), _) => bail!("is compiled code, expected a component"),
            _ if self.bytes.trim_ascii_start().starts_with(b"(") => {
                bail!("is WebAssembly text, expected a binary component")
            }
            _ => bail!("is not WebAssembly, expected a component"),
        }
        compiler.compile(engine, &self.bytes, &self.digest, limits, overtaken)
    }
}

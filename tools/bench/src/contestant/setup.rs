//! The settings that all contestants share.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::scenario::Wires;

/// The settings that all contestants share.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: SocketAddr,
    /// The admin listener of a fusebox with components.
    pub(crate) admin: SocketAddr,
    /// The directory of its files.
    pub(crate) directory: PathBuf,
    pub(crate) wires: Wires,
    /// Its certificate and the key, where TLS is spoken.
    pub(crate) pair: Option<(PathBuf, PathBuf)>,
    pub(crate) workers: usize,
    /// Client connections at once.
    pub(crate) connections: usize,
    /// `/routes/0` and so on, beside `/` and `/retry`.
    pub(crate) routes: u64,
    /// Components that the routes are spread over.
    pub(crate) components: u64,
    /// The longest head in bytes, if longer than the default.
    pub(crate) max_header: Option<u64>,
    /// Whether clients are told apart, by `X-Tenant`.
    pub(crate) has_keys: bool,
}

impl Setup {
    /// Writes a file into its directory.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

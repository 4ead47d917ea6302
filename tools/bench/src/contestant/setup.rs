//! What all contestants are told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

/// What all contestants are told.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: SocketAddr,
    /// For the admin listener of a fusebox that asks components.
    pub(crate) admin: SocketAddr,
    /// For its files.
    pub(crate) directory: PathBuf,
    pub(crate) workers: usize,
    /// How many clients it has to bear at once.
    pub(crate) connections: usize,
    /// `/routes/0` and so on, beside `/` and `/retry`.
    pub(crate) routes: u64,
    /// How many components the routes are spread over.
    pub(crate) components: u64,
    /// The longest head, in bytes, if it is more than usual.
    pub(crate) max_header: Option<u64>,
}

impl Setup {
    /// Writes one of its files.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

//! The configurations of the stories.

use std::path::{Path, PathBuf};

use anyhow::bail;

/// The configuration of this name, in a working directory that is the root of the repository.
pub(super) fn config(file: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new("examples/configs").join(file);
    if !path.is_file() {
        bail!("`{}` is not here: run this from the root of the repository", path.display());
    }
    Ok(path)
}

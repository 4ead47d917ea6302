//! The tools of those who write components: `fusebox policy new`, `build`, `test` and `bench`.
//!
//! A policy is a folder with its source, [`policy.toml`](manifest::Manifest), cases and whatever its language's tools want.

pub mod build;
pub mod manifest;
pub mod scaffold;
pub mod test;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use self::manifest::Manifest;

/// A component and the cases that go with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The component.
    pub component: PathBuf,
    /// Its cases.
    pub cases: PathBuf,
}

impl Subject {
    /// What `path` means, a policy's folder or a component, with the cases in a file of their own or not: then they are those of
    /// the folder, or `cases.toml` beside the component.
    ///
    /// # Errors
    /// It is a folder without a manifest, or the manifest is wrong.
    pub fn find(path: &Path, cases: Option<PathBuf>) -> Result<Self> {
        if path.is_dir() {
            let manifest = Manifest::read(path)?;
            let component = path.join(&manifest.component);
            ensure!(
                component.exists(),
                "{}: not built yet: run `fusebox policy build {}`",
                component.display(),
                path.display()
            );
            return Ok(Self { component, cases: cases.unwrap_or_else(|| path.join(&manifest.cases)) });
        }
        let beside = || path.parent().unwrap_or(Path::new("")).join(manifest::CASES);
        Ok(Self { component: path.to_owned(), cases: cases.unwrap_or_else(beside) })
    }
}

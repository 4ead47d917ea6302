//! The tools of those who write components: `fusebox policy new`, `build`, `test` and `bench`.
//!
//! A policy is a folder with its source, [`policy.toml`](manifest::Manifest), cases and whatever
//! its language's tools want.

pub mod build;
pub mod manifest;
pub mod scaffold;
pub mod test;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fusebox_wasm::{Cases, Compiler, ComponentConfig, Trial};

use self::manifest::Manifest;
use crate::read::read;

/// A component and the cases that go with it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The component.
    pub component: PathBuf,
    /// Its cases.
    pub cases: PathBuf,
    /// Its name in a configuration: of captured cases only those of this component count.
    pub name: Option<String>,
    /// How it is configured; none: the cases say so.
    pub config: Option<ComponentConfig>,
}

/// The component that `path` means: itself, or that of a policy's folder.
///
/// # Errors
/// It is a folder without a manifest, or whose component is not built.
pub fn component_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let component = path.join(&Manifest::read(path)?.component);
    let (shown, folder) = (component.display(), path.display());
    ensure!(component.exists(), "{shown}: not built yet: run `fusebox policy build {folder}`");
    Ok(component)
}

impl Subject {
    /// What `path` means, a policy's folder or a component, with the cases in a file of their own
    /// or not: then they are those of the folder, or `cases.toml` beside the component.
    ///
    /// # Errors
    /// It is a folder without a manifest, or the manifest is wrong.
    pub fn find(path: &Path, cases: Option<PathBuf>) -> Result<Self> {
        if path.is_dir() {
            let (component, manifest) = (component_of(path)?, Manifest::read(path)?);
            let cases = cases.unwrap_or_else(|| path.join(&manifest.cases));
            return Ok(Self { component, cases, name: None, config: None });
        }
        let beside = path.parent().unwrap_or(Path::new("")).join(manifest::CASES);
        let cases = match cases {
            Some(cases) => cases,
            None if beside.exists() => beside,
            None => {
                bail!("{}: not there: name the cases, or the policy's folder", beside.display())
            }
        };
        Ok(Self { component: path.to_owned(), cases, name: None, config: None })
    }

    /// The same, as the component of this name; configured as in the configuration `file`, if there
    /// is one.
    ///
    /// # Errors
    /// The configuration can't be read or is wrong, or has no such component.
    pub fn named(self, name: Option<String>, file: Option<&Path>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self { name, ..self }) };
        let name = name.context("`--config` needs `--component NAME`")?;
        let read = read(file).map_err(|invalid| {
            let errors: Vec<_> = invalid.errors.iter().map(ToString::to_string).collect();
            anyhow!("{}", errors.join("; "))
        });
        let mut config = read?.config;
        let component = config.components.remove(&name);
        let component =
            component.with_context(|| format!("{}: no component `{name}`", file.display()))?;
        let problems: Vec<_> = component
            .validate()
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect();
        ensure!(
            problems.is_empty(),
            "{}: component `{name}`: {}",
            file.display(),
            problems.join("; ")
        );
        Ok(Self { name: Some(name), config: Some(component), ..self })
    }

    /// Loads both. Blocks while `compiler` compiles.
    ///
    /// # Errors
    /// One of them is no good.
    pub fn trial(&self, compiler: Compiler) -> Result<Trial> {
        let cases = Cases::read(&self.cases, self.name.as_deref())?;
        Trial::load(&self.component, cases, self.config.clone(), compiler)
    }
}

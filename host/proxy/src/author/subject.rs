//! What the commands are about: a component, with its cases and its configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fusebox_wasm::author::{Cases, ComponentTrial};
use fusebox_wasm::{Compiler, ComponentConfig};

use super::manifest::{self, Manifest};
use crate::read::read;

/// A component and the cases that go with it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The component.
    pub(super) component: PathBuf,
    /// Its cases.
    pub(super) cases: PathBuf,
    /// Its name in a configuration: of captured cases only those of this component count.
    pub(super) name: Option<String>,
    /// How it is configured; none: the cases say so.
    pub(super) config: Option<ComponentConfig>,
}

/// The component that `path` means: itself, or that of a component's folder.
///
/// # Errors
/// It is not there, or a folder without a manifest, or one whose component is not built.
pub(super) fn component_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        path.metadata().with_context(|| path.display().to_string())?;
        return Ok(path.to_owned());
    }
    let component = path.join(&Manifest::read(path)?.component);
    let (shown, folder) = (component.display(), path.display());
    ensure!(component.exists(), "{shown}: not built yet: run `fusebox component build {folder}`");
    Ok(component)
}

impl Subject {
    /// What `path` means, a component's folder or a component. The cases are in `cases`, or else
    /// those of the folder, or in `cases.toml` beside the component.
    ///
    /// # Errors
    /// It is not there, or a folder without a manifest, or the manifest is wrong.
    pub(super) fn find(path: &Path, cases: Option<PathBuf>) -> Result<Self> {
        let component = component_of(path)?;
        if path.is_dir() {
            let manifest = Manifest::read(path)?;
            let cases = cases.unwrap_or_else(|| path.join(&manifest.cases));
            return Ok(Self { component, cases, name: None, config: None });
        }
        let beside = path.parent().unwrap_or(Path::new("")).join(manifest::CASES);
        let cases = match cases {
            Some(cases) => cases,
            None if beside.exists() => beside,
            None => {
                bail!("{}: not there: name the cases, or the component's folder", beside.display())
            }
        };
        Ok(Self { component, cases, name: None, config: None })
    }

    /// The same, as the component of this name; configured as in the configuration `file`, if there
    /// is one.
    ///
    /// # Errors
    /// The configuration can't be read or is wrong, or has no such component.
    pub(super) fn named(self, name: Option<String>, file: Option<&Path>) -> Result<Self> {
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
    pub(super) fn trial(&self, compiler: Compiler) -> Result<ComponentTrial> {
        let cases = Cases::read(&self.cases, self.name.as_deref())?;
        ComponentTrial::load(&self.component, cases, self.config.clone(), compiler)
    }
}

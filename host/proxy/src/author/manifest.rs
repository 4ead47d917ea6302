//! `component.toml`: in which language a component is written, and how it is built.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use fusebox_wasm::author::World;
use serde::Deserialize;

/// Its name in a component's folder.
pub(super) const FILE: &str = "component.toml";
/// The cases, unless the manifest says otherwise.
pub(super) const CASES: &str = "cases.toml";

/// What a component's folder says of itself. Paths are relative to the folder.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What it is written in.
    pub(super) language: Language,
    /// What its component exports.
    pub(super) world: World,
    /// The file that the tools begin with; Rust and Go know it themselves.
    pub(super) source: Option<PathBuf>,
    /// The folder with the contract.
    #[serde(default = "wit")]
    pub(super) wit: PathBuf,
    /// Where the component goes.
    pub(super) component: PathBuf,
    /// Its cases.
    #[serde(default = "cases")]
    pub(super) cases: PathBuf,
    /// What it may import beside the contract, without versions: `wasi:cli/stderr`. A build that
    /// needs more fails.
    #[serde(default)]
    pub(super) imports: Vec<String>,
}

fn wit() -> PathBuf {
    "wit".into()
}

fn cases() -> PathBuf {
    CASES.into()
}

/// A language that components can be written in.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    /// For `wasm32-wasip2`.
    Rust,
    /// On QuickJS.
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    /// On CPython.
    Python,
    /// With zig or clang.
    C,
    /// Without a template: see `policies/deploy-window` in the repository.
    #[value(skip)]
    Go,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
            Self::Go => "Go",
        })
    }
}

impl Manifest {
    /// That of `folder`.
    ///
    /// # Errors
    /// There is none, or it is wrong; with the line.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE);
        let place = file.display();
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!(
                    "{place}: not there, so this is no component's folder; `fusebox component new` \
                     makes one"
                )
            }
            read => read.with_context(|| place.to_string())?,
        };
        let manifest: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow!("{place}:{line}: {}", error.message())
        })?;
        if manifest.source.is_none() && ![Language::Rust, Language::Go].contains(&manifest.language)
        {
            bail!("{place}: a component in {} needs a `source`", manifest.language);
        }
        if manifest.component.extension() != Some(OsStr::new("wasm")) {
            bail!(
                "{place}: `component`: expected a file that ends in `.wasm`, found `{}`",
                manifest.component.display()
            );
        }
        Ok(manifest)
    }

    /// The source of a language that needs one.
    pub(super) fn source(&self) -> &Path {
        self.source.as_deref().unwrap_or(Path::new(""))
    }
}

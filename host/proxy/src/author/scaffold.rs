//! `fusebox component new`: a folder that builds, and passes its cases, as it is.
//!
//! The templates are files beside this one; their README says how names become names.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use fusebox_wasm::WIT;
use fusebox_wasm::author::World;
use include_dir::{Dir, include_dir};

use super::manifest::Language;

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/author/templates");

/// What a new component does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ComponentKind {
    /// Decides what is a failure
    Predicate,
    /// Answers in place of one
    Fallback,
    /// Both
    Both,
    /// Says how long to wait
    Delay,
    /// Says whose call it is
    Key,
}

impl ComponentKind {
    const ALL: [Self; 5] = [Self::Predicate, Self::Fallback, Self::Both, Self::Delay, Self::Key];

    fn name(self) -> &'static str {
        match self {
            Self::Predicate => "predicate",
            Self::Fallback => "fallback",
            Self::Both => "both",
            Self::Delay => "delay",
            Self::Key => "key",
        }
    }

    fn world(self) -> World {
        match self {
            Self::Predicate => World::PredicatePolicy,
            Self::Fallback => World::FallbackPolicy,
            Self::Both => World::Policy,
            Self::Delay => World::DelayPolicy,
            Self::Key => World::KeyPolicy,
        }
    }
}

impl Language {
    fn template(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::Python => "python",
            Self::C => "c",
            Self::Go => "go",
        }
    }

    /// What gets its tools into the folder, if that is to be done once.
    fn setup(self) -> Option<&'static str> {
        match self {
            Self::JavaScript => Some("npm install"),
            Self::Python | Self::C | Self::Go => {
                Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt")
            }
            Self::Rust => None,
        }
    }
}

/// Makes the folder `name` in `directory`. Returns the commands that come next.
///
/// # Errors
/// The name is none, or is taken, or the folder can't be written.
pub(super) fn new(
    directory: &Path,
    name: &str,
    language: Language,
    kind: ComponentKind,
) -> Result<Vec<String>> {
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.ends_with('-');
    ensure!(
        is_name,
        "`{name}`: expected a name of lower case letters, digits and `-`, such as \
         `busy-is-failure`"
    );
    let Some(templates) = TEMPLATES.get_dir(language.template()) else {
        bail!(
            "there is no template in {language}; `policies/deploy-window` of the repository is an \
             example"
        )
    };
    let folder = directory.join(name);
    // Not over anything that is there.
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let values = [
        ("{{name}}", name),
        ("{{name_snake}}", &name.replace('-', "_")),
        ("{{world}}", kind.world().name()),
    ];
    let mut pending = vec![templates];
    while let Some(templates) = pending.pop() {
        for template in templates.files() {
            let path = template.path().strip_prefix(language.template())?;
            let Some(path) = name_of(&path.to_string_lossy(), kind) else { continue };
            let text = template.contents_utf8().context("a template that is no text")?;
            write(
                &folder.join(path),
                &values.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)),
            )?;
        }
        pending.extend(templates.dirs());
    }
    write(&folder.join("wit/policy.wit"), WIT)?;
    let enter = format!("cd {name}");
    let own = ["fusebox component build", "fusebox component test"];
    Ok([&*enter].into_iter().chain(language.setup()).chain(own).map(str::to_owned).collect())
}

/// Where a template goes; none if it is for another kind.
fn name_of(path: &str, kind: ComponentKind) -> Option<String> {
    for other in ComponentKind::ALL {
        let mark = format!(".{}.", other.name());
        if path.contains(&mark) {
            return (other == kind).then(|| path.replace(&mark, "."));
        }
    }
    Some(match path {
        "cargo.toml" => "Cargo.toml".to_owned(),
        "gitignore" => ".gitignore".to_owned(),
        path => path.to_owned(),
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    let place = || file.display().to_string();
    fs::create_dir_all(file.parent().unwrap_or(Path::new(""))).with_context(place)?;
    fs::write(file, text).with_context(place)
}

//! The command line of `fusebox component`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use fusebox_wasm::Compiler;
use fusebox_wasm::author::inspect;

use super::build::{self, Built};
use super::manifest::Language;
use super::scaffold::{self, ComponentKind};
use super::subject::{Subject, component_of};
use super::test;
use crate::code_cache;
use crate::config::CodeCacheConfig;

/// The arguments of `fusebox component`.
#[derive(Args, Debug)]
pub struct ComponentArguments {
    #[command(subcommand)]
    command: ComponentCommand,
}

#[derive(Debug, Subcommand)]
enum ComponentCommand {
    /// Make a folder with a component that builds and passes its cases as it is
    New {
        /// Its name: lower case letters, digits and `-`
        name: String,
        /// What it is written in
        #[arg(long)]
        lang: Language,
        /// What it does
        #[arg(long, default_value = "predicate")]
        kind: ComponentKind,
    },
    /// Build a component with the tools of its language
    Build {
        /// The component's folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Run a component's cases
    Test {
        #[command(flatten)]
        subject: SubjectArguments,
        /// Go on, and run them again when the component or the cases have changed
        #[arg(long)]
        watch: bool,
    },
    /// Measure a component's calls by its cases
    Bench {
        #[command(flatten)]
        subject: SubjectArguments,
        /// Calls for each case
        #[arg(
            long,
            default_value_t = 10_000,
            value_parser = clap::value_parser!(u32).range(1..=10_000_000),
        )]
        calls: u32,
    },
    /// Show what a component imports, exports and may do
    Inspect {
        /// The component, or its folder
        #[arg(default_value = ".")]
        path: PathBuf,
    },
}

#[derive(Args, Debug)]
struct SubjectArguments {
    /// A component's folder, or a component
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The cases; default: those of the folder, or `cases.toml` beside the component
    cases: Option<PathBuf>,
    /// Configure it as this configuration does, and not as the cases say
    #[arg(long, value_name = "FILE", requires = "component")]
    config: Option<PathBuf>,
    /// Its name there, and in a log: cases that were captured of others are passed over
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
}

impl SubjectArguments {
    fn find(&self) -> Result<Subject> {
        Subject::find(&self.path, self.cases.clone())?
            .named(self.component.clone(), self.config.as_deref())
    }
}

impl ComponentArguments {
    /// Does it: `say` hears the results, `complain` what happens meanwhile. Returns whether all is
    /// well with the component.
    ///
    /// # Errors
    /// It can't be done.
    pub fn run(self, compiler: Compiler, say: fn(&str), complain: fn(&str)) -> Result<bool> {
        match self.command {
            ComponentCommand::New { name, lang, kind } => {
                let next = scaffold::new(Path::new(""), &name, lang, kind)?;
                say(&format!("{name}: made. Next:\n  {}", next.join("\n  ")));
                Ok(true)
            }
            ComponentCommand::Build { folder } => {
                let Built { component, size, changed } = build::build(&folder, complain)?;
                let unchanged = if changed { "" } else { ", unchanged" };
                say(&format!("{}: {size} bytes{unchanged}", component.display()));
                Ok(true)
            }
            ComponentCommand::Test { subject, watch } => {
                let compiler = with_cache(compiler);
                if watch {
                    test::watch(|| subject.find(), &compiler, say)
                }
                test::test(&subject.find()?, compiler, say)
            }
            ComponentCommand::Bench { subject, calls } => {
                say(&subject.find()?.trial(with_cache(compiler))?.bench(calls)?.to_string());
                Ok(true)
            }
            ComponentCommand::Inspect { path } => {
                let inspection = inspect(&component_of(&path)?, with_cache(compiler))?;
                say(inspection.to_string().trim_end());
                Ok(inspection.is_acceptable())
            }
        }
    }
}

/// With the user's code cache, if there is one; without it takes longer, and nothing else.
fn with_cache(compiler: Compiler) -> Compiler {
    match code_cache::open(&CodeCacheConfig::default(), Path::new("")) {
        Ok(Some(cache)) => compiler.with_cache(cache),
        _ => compiler,
    }
}

//! Describes a component's file, and whether it would be accepted: `fusebox component inspect`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use fusebox_resilience::ComponentId;
use wasmparser::{KnownCustom, Parser, Payload};
use wasmtime::component::Component;

use crate::artifact::Artifact;
use crate::compiler::Compiler;
use crate::config::ComponentConfig;
use crate::contract::{ContractExport, is_attempt, is_handler};
use crate::grants;
use crate::memory::ComponentMemory;
use crate::meters::Meters;
use crate::overtaken::Overtaken;
use crate::probe::try_out;
use crate::runtime::Runtime;
use crate::version::{self, Version};

/// The description of a component's file.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub size: usize,
    /// Its SHA-256 in hex, as `sha256` in the configuration wants it.
    pub sha256: String,
    /// What it imports; empty if it is no component.
    pub imports: Vec<String>,
    /// Whether a trailer is among that: as a condition it may be asked twice.
    pub reads_trailers: bool,
    /// What it exports; empty if it is no component.
    pub exports: Vec<String>,
    /// What made it, as its tools say: languages and tools.
    pub made_by: Vec<String>,
    /// Why it would be refused, if it would.
    pub refusal: Option<String>,
    /// Why its trial calls without settings fail, if they do.
    pub trial: Option<String>,
}

/// Reads `file` and puts it through all that a load does, with the default limits. Blocks while
/// `compiler` compiles.
///
/// # Errors
/// It can't be read, or there is no WebAssembly runtime on this machine. A file that would be
/// refused is not an error.
pub fn inspect(file: &Path, compiler: Compiler) -> anyhow::Result<Inspection> {
    let artifact = Artifact::read(file).with_context(|| file.display().to_string())?;
    // Whether trial calls succeed depends on settings, which are not known here.
    let config = Arc::new(ComponentConfig { probe: false, ..ComponentConfig::new(file) });
    let runtime = Arc::new(Runtime::new(
        compiler,
        ComponentMemory::default(),
        config.timeout.0,
        config.stack(),
    )?);
    let (limits, wanted) = (config.compile_limits(), Overtaken::default());
    let compiled = artifact.compile(runtime.compiler(), runtime.engine(), limits, &wanted);
    let names = |of: fn(&Runtime, &Component) -> Vec<String>| {
        compiled.as_ref().map(|compiled| of(&runtime, &compiled.component)).unwrap_or_default()
    };
    let (imports, exports) = (names(version::imports), names(version::exports));
    let reads_trailers = compiled
        .as_ref()
        .is_ok_and(|compiled| version::reads_trailers(&runtime, &compiled.component));
    let admit = |probe| {
        let compiled = compiled.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        admit(
            &compiled.component,
            &artifact,
            ComponentConfig { probe, ..(*config).clone() },
            &runtime,
        )
    };
    let refusal = admit(false).err().map(|error| format!("{error:#}"));
    let trial =
        if refusal.is_none() { admit(true).err().map(|error| format!("{error:#}")) } else { None };
    Ok(Inspection {
        file: file.to_owned(),
        size: artifact.bytes().len(),
        sha256: artifact.digest().to_string(),
        imports,
        reads_trailers,
        exports,
        made_by: makers(artifact.bytes()),
        refusal,
        trial,
    })
}

fn admit(
    component: &Component,
    artifact: &Artifact,
    config: ComponentConfig,
    runtime: &Arc<Runtime>,
) -> anyhow::Result<()> {
    let id =
        ComponentId { name: "inspected".into(), digest: artifact.digest().clone(), generation: 1 };
    let (runtime, meters) = (runtime.clone(), Arc::new(Meters::default()));
    let version =
        Version::link(component, id, config.into(), runtime, meters, Overtaken::default())?;
    try_out(&Arc::new(version))?;
    Ok(())
}

/// Languages first, then tools, each once; as far as it can be read.
fn makers(bytes: &[u8]) -> Vec<String> {
    let (mut languages, mut tools) = (BTreeSet::new(), BTreeSet::new());
    // Those of the modules within it too.
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields.into_iter().map_while(Result::ok) {
            for value in field.values.into_iter().map_while(Result::ok) {
                let named = format!("{} {}", value.name, value.version).trim().to_owned();
                if field.name == "language" {
                    languages.insert(named)
                } else {
                    tools.insert(named)
                };
            }
        }
    }
    languages.into_iter().chain(tools).collect()
}

impl Inspection {
    /// Whether a configuration may name it.
    pub fn is_acceptable(&self) -> bool {
        self.refusal.is_none()
    }

    /// The world that it is built for: one of the contract's, or the standard one for HTTP
    /// components.
    pub fn world(&self) -> Option<&'static str> {
        match ContractExport::ALL.map(|export| self.has(export)) {
            [true, true, false, false] => Some("fusebox:policy/policy@0.1.0"),
            [true, false, false, false] => Some("fusebox:policy/predicate-policy@0.1.0"),
            [false, true, false, false] => Some("fusebox:policy/fallback-policy@0.1.0"),
            [false, false, true, false] => Some("fusebox:policy/delay-policy@0.1.0"),
            [false, false, false, true] => Some("fusebox:policy/key-policy@0.1.0"),
            [true, false, true, false] => Some("fusebox:policy/retry-policy@0.1.0"),
            [false, false, false, false] => {
                self.handles_requests().then_some("wasi:http/proxy@0.2")
            }
            _ => Some("one of its own, with exports of `fusebox:policy@0.1.0`"),
        }
    }

    fn has(&self, export: ContractExport) -> bool {
        self.exports.iter().any(|name| name == export.name())
    }

    fn handles_requests(&self) -> bool {
        self.exports.iter().any(|export| is_handler(export))
    }

    /// What is to be said of an import.
    fn note_of(&self, import: &str) -> &'static str {
        if grants::refusal(import, self.handles_requests()).is_some() {
            "  (refused)"
        } else if self.reads_trailers && is_attempt(import) && self.has(ContractExport::Predicate) {
            "  (with trailers: a condition may be asked again when they have come)"
        } else {
            ""
        }
    }

    /// The values of `grant` that apply to it, with their purpose.
    pub fn grants(&self) -> Vec<&'static str> {
        let imports =
            |name: &str| self.imports.iter().any(|import| import.split('@').next() == Some(name));
        let mut grants = Vec::new();
        grants.extend(imports("wasi:cli/environment").then_some("env:NAME (to see a variable)"));
        grants.extend(
            imports("wasi:http/outgoing-handler").then_some("http:HOST (to send requests)"),
        );
        grants
    }

    /// The keys of the configuration in which it can be named.
    pub fn serves(&self) -> Vec<&'static str> {
        let conditions = ["handle_if", "abort_if", "cancel_if", "ignore_if"]
            .iter()
            .filter(|_| self.has(ContractExport::Predicate));
        let can_respond = self.has(ContractExport::Fallback) || self.handles_requests();
        let others = [
            ("respond", can_respond),
            ("delay", self.has(ContractExport::Delay)),
            ("key", self.has(ContractExport::Key)),
        ];
        let others = others.into_iter().filter(|(_, serves)| *serves).map(|(key, _)| key);
        conditions.copied().chain(others).collect()
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file     {}", self.file.display())?;
        writeln!(f, "size     {} bytes", self.size)?;
        writeln!(f, "sha256   {}", self.sha256)?;
        writeln!(f, "world    {}", self.world().unwrap_or("none of `fusebox:policy@0.1.0`"))?;
        let serves = self.serves();
        writeln!(
            f,
            "serves   {}",
            if serves.is_empty() { "nothing".into() } else { serves.join(", ") }
        )?;
        if !self.made_by.is_empty() {
            writeln!(f, "made by  {}", self.made_by.join(", "))?;
        }
        let grants = self.grants();
        writeln!(
            f,
            "grants   {}",
            if grants.is_empty() { "none".into() } else { grants.join(", ") }
        )?;
        for (label, names) in [("imports", &self.imports), ("exports", &self.exports)] {
            for (index, name) in names.iter().enumerate() {
                let note = if label == "imports" { self.note_of(name) } else { "" };
                writeln!(f, "{:<8} {name}{note}", if index == 0 { label } else { "" })?;
            }
        }
        match &self.refusal {
            None => match &self.trial {
                None => write!(f, "accepted"),
                Some(trial) => {
                    write!(f, "accepted, with the settings that it needs: without any it {trial}")
                }
            },
            Some(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

//! One version of a component: read, checked, compiled, and ready to be instantiated any number of
//! times.
//!
//! A version never changes. Whoever holds it can go on using it; when another has taken its place
//! it is *retired*, which is how the instances of it that workers keep learn that they should go.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow, bail, ensure};
use fusebox_resilience::ComponentId;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{self, Component, InstancePre};
use wasmtime::{Engine, Store};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::bindings::exports::fusebox::policy::{fallback, predicate};
use crate::compiler::{COMPONENT, CompileLimits, Compiler, MODULE};
use crate::config::ComponentConfig;
use crate::engine::{Runtime, anyhow_of};
use crate::grants;
use crate::http::{HANDLER, Handler, is_handler};
use crate::instances::State;
use crate::status::Meters;

/// The export of a component that answers `handle-if`.
pub(crate) const PREDICATE: &str = "fusebox:policy/predicate@0.1.0";
/// The export of a component that makes fallback responses.
pub(crate) const FALLBACK: &str = "fusebox:policy/fallback@0.1.0";

/// The largest component, in bytes: three times the largest guest seen.
pub const LARGEST_FILE: u64 = 64 << 20;

/// The content of a file of at most so many bytes.
///
/// # Errors
/// It can't be read, is none that ends, or is larger.
pub(crate) fn read_regular(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    // Opening a pipe would else wait for somebody to write to it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)?;
    ensure!(file.metadata()?.is_file(), "is not a regular file");
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long, even one that grows while it is
    // read.
    let read = file.take(largest + 1).read_to_end(&mut bytes)?;
    ensure!(read as u64 <= largest, "larger than {} MiB", largest >> 20);
    Ok(bytes)
}

/// The content of a file, and its digest.
pub(crate) struct Artifact {
    bytes: Vec<u8>,
    digest: Arc<str>,
}

impl Artifact {
    /// Reads `file`.
    ///
    /// # Errors
    /// It can't be read, or is larger than 64 MiB.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        read_regular(file, LARGEST_FILE).map(Self::new)
    }

    /// Of these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, digest: digest.into() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its SHA-256 in hex.
    pub(crate) fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Holds it against the digest that the configuration asks for.
    pub(crate) fn check_digest(&self, pinned: Option<&str>) -> anyhow::Result<()> {
        match pinned {
            Some(pinned) if !pinned.eq_ignore_ascii_case(&self.digest) => {
                bail!("expected sha256 `{pinned}`, found `{}`", self.digest)
            }
            _ => Ok(()),
        }
    }

    /// Compiles it, unless that was done before. Slow: up to 18 s of one core for the largest guest
    /// languages.
    ///
    /// # Errors
    /// It is not a valid component, or takes more than `limits` to compile.
    pub(crate) fn compile(
        &self,
        compiler: &Compiler,
        engine: &Engine,
        limits: CompileLimits,
    ) -> anyhow::Result<Component> {
        match (self.bytes.get(..4), self.bytes.get(4..8)) {
            (Some(b"\0asm"), Some(kind))
                if [COMPONENT, MODULE].iter().any(|known| known == kind) => {}
            (Some(b"\0asm"), Some(_)) => {
                bail!("is WebAssembly of an unknown version, expected a component")
            }
            (Some(b"\0asm"), None) => {
                bail!("is cut off after {} bytes, expected a component", self.bytes.len())
            }
            (Some(b"\x7fELF"), _) => bail!("is compiled code, expected a component"),
            _ if self.bytes.trim_ascii_start().starts_with(b"(") => {
                bail!("is WebAssembly text, expected a binary component")
            }
            _ => bail!("is not WebAssembly, expected a component"),
        }
        compiler.compile(engine, &self.bytes, &self.digest, limits)
    }
}

/// Which questions a component answers.
pub(crate) struct Exports {
    predicate: Option<predicate::GuestIndices>,
    fallback: Option<fallback::GuestIndices>,
}

/// The functions of one instance that answer them.
pub(crate) struct Guest {
    predicate: Option<predicate::Guest>,
    fallback: Option<fallback::Guest>,
}

impl Guest {
    /// Answers `handle-if`.
    pub(crate) fn predicate(&self) -> &predicate::Guest {
        self.predicate.as_ref().expect("a version without an export that is in use is not taken")
    }

    /// Makes fallback responses.
    pub(crate) fn fallback(&self) -> &fallback::Guest {
        self.fallback.as_ref().expect("a version without an export that is in use is not taken")
    }
}

impl Exports {
    fn find(pre: &InstancePre<State>) -> anyhow::Result<Self> {
        let has = |name| pre.component().get_export_index(None, name).is_some();
        let wrong = |name| {
            move |error| {
                anyhow_of(error).context(format!("export `{name}` is not that of the contract"))
            }
        };
        let predicate = has(PREDICATE)
            .then(|| predicate::GuestIndices::new(pre).map_err(wrong(PREDICATE)))
            .transpose()?;
        let fallback = has(FALLBACK)
            .then(|| fallback::GuestIndices::new(pre).map_err(wrong(FALLBACK)))
            .transpose()?;
        Ok(Self { predicate, fallback })
    }

    /// Finds them in an instance.
    ///
    /// # Errors
    /// One has another type than the contract says.
    pub(crate) fn load(
        &self,
        store: &mut Store<State>,
        instance: &component::Instance,
    ) -> wasmtime::Result<Guest> {
        let wrong = |name| {
            move |error: wasmtime::Error| error.context(format!("export `{name}` has a wrong type"))
        };
        Ok(Guest {
            predicate: self
                .predicate
                .as_ref()
                .map(|indices| indices.load(&mut *store, instance).map_err(wrong(PREDICATE)))
                .transpose()?,
            fallback: self
                .fallback
                .as_ref()
                .map(|indices| indices.load(&mut *store, instance).map_err(wrong(FALLBACK)))
                .transpose()?,
        })
    }

    /// Whether it answers any question of the contract.
    pub(crate) fn are_any(&self) -> bool {
        self.has_predicate() || self.has_fallback()
    }

    pub(crate) fn has_predicate(&self) -> bool {
        self.predicate.is_some()
    }

    pub(crate) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }
}

/// A component whose imports and exports are resolved.
struct Linked {
    pre: InstancePre<State>,
    exports: Exports,
    /// If it makes fallback responses by the standard. One that does by the contract too is asked
    /// by that.
    handler: Option<Handler>,
}

/// Resolves what a component imports and exports.
///
/// # Errors
/// It imports what is not granted, or exports none of the interfaces that policies ask.
fn link(runtime: &Runtime, component: &Component) -> anyhow::Result<Linked> {
    let is_handler = exports(runtime, component).iter().any(|name| is_handler(name));
    let imports = imports(runtime, component);
    let refused: Vec<_> =
        imports.iter().filter_map(|name| grants::refusal(name, is_handler)).collect();
    ensure!(refused.is_empty(), "{}", refused.join("; "));
    let pre = runtime
        .linker()
        .instantiate_pre(component)
        .map_err(anyhow_of)
        .context("an import has a wrong type")?;
    let exports = Exports::find(&pre)?;
    ensure!(
        exports.are_any() || is_handler,
        "missing export `{PREDICATE}` or `{FALLBACK}`, or `{HANDLER}`"
    );
    let handler = (is_handler && !exports.has_fallback())
        .then(|| Handler::link(runtime, component))
        .transpose()?;
    Ok(Linked { pre, exports, handler })
}

/// The names of all that it imports.
pub(crate) fn imports(runtime: &Runtime, component: &Component) -> Vec<String> {
    component.component_type().imports(runtime.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// The names of all that it exports.
pub(crate) fn exports(runtime: &Runtime, component: &Component) -> Vec<String> {
    component.component_type().exports(runtime.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// A component under a name and a generation, compiled and linked.
pub(crate) struct Version {
    id: ComponentId,
    config: Arc<ComponentConfig>,
    /// Keeps the ticker going: without it no guest could be cut off.
    runtime: Arc<Runtime>,
    pre: InstancePre<State>,
    exports: Exports,
    handler: Option<Handler>,
    /// The settings again, for guests that read them the standard way.
    settings: WasiConfigVariables,
    meters: Arc<Meters>,
    retired: AtomicBool,
}

impl Version {
    /// Compiles and links `artifact`. That it can be instantiated is still to be seen.
    ///
    /// # Errors
    /// It is not an acceptable component.
    pub(crate) fn new(
        artifact: &Artifact,
        id: ComponentId,
        config: Arc<ComponentConfig>,
        runtime: Arc<Runtime>,
        meters: Arc<Meters>,
    ) -> anyhow::Result<Self> {
        let component =
            artifact.compile(runtime.compiler(), runtime.engine(), config.compile_limits())?;
        Self::link(&component, id, config, runtime, meters)
    }

    /// Links what was compiled.
    ///
    /// # Errors
    /// It is not an acceptable component.
    pub(crate) fn link(
        component: &Component,
        id: ComponentId,
        config: Arc<ComponentConfig>,
        runtime: Arc<Runtime>,
        meters: Arc<Meters>,
    ) -> anyhow::Result<Self> {
        let Linked { pre, exports, handler } = link(&runtime, component)?;
        let settings =
            config.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let retired = AtomicBool::new(false);
        Ok(Self { id, config, runtime, pre, exports, handler, settings, meters, retired })
    }

    /// The same code with other settings.
    ///
    /// # Errors
    /// None that linking it the first time did not have.
    pub(crate) fn with_settings(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let config = ComponentConfig { settings: settings.clone(), ..(*self.config).clone() };
        Self::link(
            self.pre.component(),
            self.id.clone(),
            config.into(),
            self.runtime.clone(),
            self.meters.clone(),
        )
    }

    pub(crate) fn id(&self) -> &ComponentId {
        &self.id
    }

    pub(crate) fn config(&self) -> &ComponentConfig {
        &self.config
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// What makes fallback responses by the standard, if it does.
    pub(crate) fn handler(&self) -> Option<&Handler> {
        self.handler.as_ref()
    }

    /// Whether it makes fallback responses, in either way.
    pub(crate) fn can_respond(&self) -> bool {
        self.exports.has_fallback() || self.handler.is_some()
    }

    pub(crate) fn settings(&self) -> &WasiConfigVariables {
        &self.settings
    }

    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Another one has taken its place, or nobody can ask it any longer. A call that has begun may
    /// still end.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// It was rolled back to.
    pub(crate) fn reinstate(&self) {
        self.retired.store(false, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// That `version` has what is in use.
pub(crate) fn check_exports(version: &Version, needs: Needs) -> anyhow::Result<()> {
    for (needed, has, name) in [
        (needs.predicate, version.exports().has_predicate(), PREDICATE),
        (needs.fallback, version.can_respond(), FALLBACK),
    ] {
        if needed && !has {
            return Err(anyhow!("missing export `{name}`, which is in use"));
        }
    }
    Ok(())
}

/// Which exports policies rely on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) predicate: bool,
    pub(crate) fallback: bool,
}

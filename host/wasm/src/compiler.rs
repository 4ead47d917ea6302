//! Compiles components: from the cache, else in a child process with limits on memory and time.
//!
//! Compiling is where a hostile file does the most damage: 2 MB can keep a core busy for minutes
//! and take gigabytes. So the program runs itself once more for each component, as a child that
//! [limits itself](crate::child) before it reads the first byte. Whatever goes wrong there only
//! refuses the component.
//!
//! The parent runs the child's output as machine code. It trusts it as it trusts itself: both are
//! the same program with the same engine settings.

pub(crate) mod codegen;
pub(crate) mod exit;
pub(crate) mod limits;
mod process;
mod steps;
pub(crate) mod wrap;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use wasmtime::Engine;
use wasmtime::component::Component;

use self::codegen::code_of;
use self::limits::CompileLimits;
use self::process::{CompiledCode, INVALID, in_child};
use crate::code_cache::{CodeCache, Key};
use crate::engine::anyhow_of;
use crate::overtaken::Overtaken;

/// Compiles components, or loads cached code. Clones share the cache and the counts.
#[derive(Clone, Debug)]
pub struct Compiler {
    workplace: Workplace,
    cache: Option<Arc<CodeCache>>,
    counts: Arc<CompileCounts>,
}

/// What compiling leads to.
pub(crate) struct CompiledComponent {
    pub(crate) component: Component,
    /// Why the compiler had to run without seccomp, if it had to.
    pub(crate) unconfined: Option<String>,
}

#[derive(Clone, Debug)]
enum Workplace {
    InProcess,
    Child { program: PathBuf, arguments: Vec<OsString>, yields: bool },
}

#[derive(Debug, Default)]
struct CompileCounts {
    compiled: AtomicU64,
    cached: AtomicU64,
}

impl Compiler {
    /// Compiles on the caller's thread, without limits: for files that are trusted.
    pub fn in_process() -> Self {
        Self { workplace: Workplace::InProcess, cache: None, counts: Arc::default() }
    }

    /// Runs `program` for each component, with `arguments` and those that
    /// [`child::compile`](crate::child::compile) takes.
    /// It must be the same program as the caller: its output is run as machine code.
    pub fn child(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            workplace: Workplace::Child { program, arguments, yields: false },
            cache: None,
            counts: Arc::default(),
        }
    }

    /// Children come behind whatever else is busy on this machine: it serves meanwhile.
    pub fn yielding(mut self) -> Self {
        if let Workplace::Child { yields, .. } = &mut self.workplace {
            *yields = true;
        }
        self
    }

    /// Stores code in `cache`, and loads it from there.
    pub fn with_cache(self, cache: CodeCache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Never uses the cache.
    #[cfg(feature = "author")]
    pub(crate) fn without_cache(&self) -> Self {
        Self { cache: None, ..self.clone() }
    }

    /// Whether it has a cache.
    #[cfg(feature = "author")]
    pub(crate) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Components compiled, invalid ones included.
    pub fn compiled(&self) -> u64 {
        self.counts.compiled.load(Ordering::Relaxed)
    }

    /// Components loaded from the cache.
    pub fn cached(&self) -> u64 {
        self.counts.cached.load(Ordering::Relaxed)
    }

    /// The code of the component `bytes`, whose SHA-256 is `digest`. Blocks: milliseconds if it is
    /// in the cache, else up to twelve times `limits.timeout` and 30 s.
    ///
    /// # Errors
    /// It is not a valid component, takes more than `limits` to compile, or is overtaken; or the
    /// system has no process to spare.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        digest: &str,
        limits: CompileLimits,
        overtaken: &Overtaken,
    ) -> anyhow::Result<CompiledComponent> {
        let entry = self.cache.as_ref().map(|cache| (cache, Key::new(digest, engine)));
        if let Some((cache, key)) = &entry
            && let Some(component) = cache.load(key, engine)
        {
            self.counts.cached.fetch_add(1, Ordering::Relaxed);
            return Ok(CompiledComponent { component, unconfined: None });
        }
        self.counts.compiled.fetch_add(1, Ordering::Relaxed);
        let CompiledCode { code, unconfined } = match &self.workplace {
            Workplace::InProcess => {
                let code = code_of(engine, bytes).context(INVALID)?;
                CompiledCode { code, unconfined: None }
            }
            Workplace::Child { program, arguments, yields } => {
                let mut command = Command::new(program);
                command.args(arguments);
                in_child(command, bytes, limits, *yields, overtaken)?
            }
        };
        // Code mapped from the file is shared with other processes, and its pages can be evicted.
        if let Some((cache, key)) = &entry
            && cache.store(key, &code)
            && let Some(component) = cache.load(key, engine)
        {
            return Ok(CompiledComponent { component, unconfined });
        }
        #[expect(unsafe_code, reason = "the only way to run code that was compiled elsewhere")]
        // SAFETY: it comes from `precompile_component`, called here or by a child that is our own
        // program.
        let component = unsafe { Component::deserialize(engine, &code) };
        let component = component.map_err(anyhow_of).context("the compiler made no code")?;
        Ok(CompiledComponent { component, unconfined })
    }
}

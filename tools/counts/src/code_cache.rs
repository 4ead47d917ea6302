//! Compiled code for the processor that valgrind shows the program, which has fewer features than
//! the real one.
//!
//! Under valgrind the program can't start its own compiler: `/proc/self/exe` is valgrind there. So
//! its code cache is filled before it starts.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use fusebox_resilience::Observers;
use fusebox_resilience::config::ConfigDuration;
use fusebox_wasm::{CodeCache, Compiler, ComponentConfig, ComponentMemory, Components};

use crate::valgrind::{spawn, valgrind};

/// Runs [`compile`] under valgrind.
pub(crate) fn fill(component: &Path, directory: &Path) -> Result<()> {
    let mut command = valgrind("none");
    command.arg(env::current_exe()?).arg("--compile").args([component, directory]);
    let status = spawn(command)?.wait()?;
    ensure!(status.success(), "{} could not be compiled: {status}", component.display());
    Ok(())
}

/// Makes sure that the cache in this directory has the component's code.
pub(crate) fn compile(component: &Path, directory: &Path) -> Result<()> {
    let compiler = Compiler::in_process().with_cache(CodeCache::open(directory)?);
    // Under valgrind even an answer to a made-up outcome may take longer than a guest usually may.
    let config = ComponentConfig {
        timeout: ConfigDuration::from_secs(60),
        ..ComponentConfig::new(component)
    };
    let config = BTreeMap::from([("component".to_owned(), config)]);
    let memory = ComponentMemory::default();
    let observers = Observers::default();
    let loaded = Components::load(config, Path::new(""), compiler, memory, observers);
    loaded.map(drop).map_err(|failures| {
        let reasons: Vec<_> = failures.iter().map(|(_, error)| format!("{error:#}")).collect();
        anyhow!("{}: {}", component.display(), reasons.join("\n"))
    })
}

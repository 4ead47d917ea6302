//! What all measuring commands share: the programs, the directory, the description of the run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::contestant::Programs;
use crate::machine::{self, MachineInfo};
use crate::record::RunInfo;

/// The directory of unpublished raw data, where Envoy is installed too.
pub(crate) const DIRECTORY: &str = "target/bench";

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProgramArguments {
    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/pgo/fusebox")]
    fusebox: PathBuf,
    /// The component that it asks
    #[arg(long, value_name = "FILE", default_value = "policies/build/service_b.wasm")]
    component: PathBuf,
    /// An older fusebox to measure beside it, as `before`, `before-native` and `before-wasm`
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Envoy's binary; by default the one that `make bench` has installed, or else the one in PATH
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

impl ProgramArguments {
    /// The programs that are installed; an error if an indispensable one is missing.
    pub(crate) fn find(&self) -> Result<Programs> {
        needed(&["nginx", "wrk", "h2load"], &[Some(&self.component), self.before.as_ref()])?;
        self.find_proxies()
    }

    /// The same for those who need neither a generator nor a component.
    pub(crate) fn find_proxies(&self) -> Result<Programs> {
        needed(&["setpriv"], &[Some(&self.fusebox), self.envoy.as_ref()])?;
        let installed = Path::new(DIRECTORY).join("venv/bin/envoy");
        let envoy = self.envoy.clone().or_else(|| installed.is_file().then_some(installed));
        let absolute = |path: &Path| std::path::absolute(path);
        Ok(Programs {
            haproxy: in_path("haproxy").is_some(),
            envoy: envoy.or_else(|| in_path("envoy")),
            fusebox: absolute(&self.fusebox)?,
            component: absolute(&self.component)?,
            before: self.before.as_deref().map(absolute).transpose()?,
        })
    }
}

fn needed(programs: &[&str], files: &[Option<&PathBuf>]) -> Result<()> {
    for program in programs {
        let is_there = in_path(program).is_some();
        ensure!(is_there, "{program} is missing: tools/bench/install.sh installs it");
    }
    for file in files.iter().flatten() {
        let name = file.display();
        ensure!(file.is_file(), "{name} is not there: `make bench` builds what is missing");
    }
    Ok(())
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Where Debian keeps nginx and haproxy, which is not in everyone's path.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// A program and its version.
pub(crate) fn version(name: &str, program: &Path, flag: &str) -> (String, String) {
    let line = machine::first_line(Command::new(program).arg(flag));
    (name.to_owned(), line.unwrap_or_else(|| "unknown".into()))
}

/// Describes a run of these programs on this machine.
pub(crate) fn describe(programs: &Programs) -> Result<RunInfo> {
    let mut versions = versions_of_proxies(programs);
    versions.push(version("nginx", &in_path("nginx").unwrap_or_default(), "-v"));
    if programs.haproxy {
        versions.push(version("haproxy", &in_path("haproxy").unwrap_or_default(), "-v"));
    }
    versions.push(version("wrk", Path::new("wrk"), "-v"));
    versions.push(version("h2load", Path::new("h2load"), "--version"));
    describe_with(versions)
}

/// Those of fusebox and Envoy.
pub(crate) fn versions_of_proxies(programs: &Programs) -> Vec<(String, String)> {
    let envoy = programs.envoy.as_ref().map(|envoy| version("envoy", envoy, "--version"));
    [version("fusebox", &programs.fusebox, "--version")].into_iter().chain(envoy).collect()
}

/// The same, with these versions.
#[expect(clippy::disallowed_methods, reason = "the date of a run is no measurement")]
pub(crate) fn describe_with(versions: Vec<(String, String)>) -> Result<RunInfo> {
    Ok(RunInfo {
        time: std::time::SystemTime::now().try_into()?,
        revision: machine::revision(),
        machine: MachineInfo::describe(),
        versions,
        arguments: std::env::args().skip(1).collect(),
    })
}

pub(crate) fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

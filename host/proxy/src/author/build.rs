//! `fusebox component build`: runs the tools that a language's people know, and looks at what they
//! made.
//!
//! A tool is looked for in the folder (`node_modules/.bin`, `.venv/bin`), where its version is
//! pinned, then on the path. What does not make components by itself makes core modules, which are
//! wrapped here.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fusebox_wasm::author::imports;
use serde::Deserialize;
use tempfile::{NamedTempFile, TempDir};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use super::manifest::{Language, Manifest};

/// Where what is made on the way goes, within the folder: each build has a place of its own in it.
const BUILD: &str = "build";

/// A component that was built.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Built {
    /// Where it is.
    pub(super) component: PathBuf,
    /// Its length in bytes.
    pub(super) size: usize,
    /// It is not what was there before.
    pub(super) changed: bool,
}

/// Builds the component in `folder`; `say` hears what is run.
///
/// # Errors
/// A tool is missing (and how it is to be had), or fails; or the component imports more than its
/// manifest says. What was built before stays then.
pub(super) fn build(folder: &Path, mut say: impl FnMut(&str)) -> Result<Built> {
    let place = || folder.display().to_string();
    ensure!(!folder.is_file(), "{}: is a file; expected the folder of a component", place());
    let manifest = Manifest::read(folder)?;
    // Some tools take only paths that are relative to where they run, and some only absolute ones.
    let absolute = folder.canonicalize().with_context(place)?;
    let build = absolute.join(BUILD);
    let scratch = scratch(&build).with_context(|| build.display().to_string())?;
    let mut shop = Workshop {
        folder: absolute,
        scratch: scratch.path(),
        shown: folder,
        manifest: &manifest,
        say: &mut say,
    };
    let wasm = match manifest.language {
        Language::Rust => shop.rust(),
        Language::JavaScript => shop.javascript(),
        Language::Python => shop.python(),
        Language::C => shop.c(),
        Language::Go => shop.go(),
    }?;
    check_imports(&manifest, &wasm).with_context(place)?;
    let component = folder.join(&manifest.component);
    let changed = install(&component, &wasm).with_context(|| component.display().to_string())?;
    Ok(Built { component, size: wasm.len(), changed })
}

/// A place for one build.
fn scratch(build: &Path) -> Result<TempDir> {
    fs::create_dir_all(build)?;
    Ok(TempDir::with_prefix_in(".scratch-", build)?)
}

/// A proxy may be watching: whole or not at all, and only if it is different.
fn install(component: &Path, wasm: &[u8]) -> Result<bool> {
    if fs::read(component).is_ok_and(|before| before == wasm) {
        return Ok(false);
    }
    fs::create_dir_all(component.parent().unwrap_or(Path::new("")))?;
    write_whole(component, wasm)?;
    Ok(true)
}

/// Another build may be at it too.
fn write_whole(file: &Path, content: &[u8]) -> Result<()> {
    let mut new = NamedTempFile::new_in(file.parent().unwrap_or(Path::new("")))?;
    new.write_all(content)?;
    // As a file that a compiler made: what is temporary is for its owner alone.
    new.as_file().set_permissions(Permissions::from_mode(0o644))?;
    new.persist(file)?;
    Ok(())
}

fn check_imports(manifest: &Manifest, wasm: &[u8]) -> Result<()> {
    let name = |import: &str| import.split('@').next().unwrap_or_default().to_owned();
    let imported = imports(wasm)?.into_iter().map(|import| name(&import));
    let more: Vec<_> = imported
        .filter(|import| {
            !import.starts_with("fusebox:policy/") && !manifest.imports.contains(import)
        })
        .map(|import| format!("`{import}`"))
        .collect();
    ensure!(
        more.is_empty(),
        "the component imports {}, which `imports` in `component.toml` does not name: add what it \
         may need",
        more.join(", ")
    );
    Ok(())
}

/// A component's folder and its tools.
struct Workshop<'a> {
    folder: PathBuf,
    /// For what is only needed on the way.
    scratch: &'a Path,
    /// As the user named it.
    shown: &'a Path,
    manifest: &'a Manifest,
    say: &'a mut dyn FnMut(&str),
}

impl Workshop<'_> {
    fn rust(&mut self) -> Result<Vec<u8>> {
        let cargo = self.tool(&["cargo"], "install Rust with rustup")?;
        let target = self.rust_target(&cargo)?;
        let arguments = [
            "build",
            "--release",
            "--target",
            &target,
            "--message-format",
            "json-render-diagnostics",
        ];
        let output = self.output(&cargo, &arguments, &[])?;
        let built =
            output.lines().filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok());
        let modules = built.filter(CargoMessage::is_library).flat_map(|message| message.filenames);
        // The last one made is that of the folder; those before are of what it depends on.
        let file = modules.fold(None, |last, file| {
            if file.extension() == Some(OsStr::new("wasm")) { Some(file) } else { last }
        });
        let file = file.context(
            "`cargo` made no WebAssembly: `Cargo.toml` needs `[lib]` with \
             `crate-type = [\"cdylib\"]`",
        )?;
        let wasm = fs::read(&file).with_context(|| file.display().to_string())?;
        // Its linker made a component, for the target that is tried first.
        if target == RUST_TARGETS[0] { Ok(wasm) } else { self.manifest.world.componentize(&wasm) }
    }

    fn rust_target(&mut self, cargo: &Path) -> Result<String> {
        let rustc = cargo.with_file_name("rustc");
        let rustc = if rustc.exists() { rustc } else { PathBuf::from("rustc") };
        let asked =
            Command::new(rustc).args(["--print", "sysroot"]).current_dir(&self.folder).output();
        let sysroot = String::from_utf8_lossy(&asked.context("`rustc`")?.stdout).trim().to_owned();
        let libraries = Path::new(&sysroot).join("lib/rustlib");
        let target = RUST_TARGETS.into_iter().find(|target| libraries.join(target).exists());
        let missing = || anyhow!("no target `{0}`: run `rustup target add {0}`", RUST_TARGETS[0]);
        target.map(str::to_owned).ok_or_else(missing)
    }

    fn javascript(&mut self) -> Result<Vec<u8>> {
        let install =
            if self.folder.join("package-lock.json").exists() { "npm ci" } else { "npm install" };
        let npm = if find(&self.folder, &["npm"]).is_some() {
            ""
        } else {
            " (`npm` comes with Node.js 20 or newer)"
        };
        let jco =
            self.tool(&["jco"], &format!("run `{install}` in `{}`{npm}", self.shown.display()))?;
        let out = self.scratch.join("component.wasm");
        let world = self.manifest.world.name();
        let (source, wit) = (self.manifest.source().to_owned(), self.manifest.wit.clone());
        self.run(
            &jco,
            &[
                "componentize".as_ref(),
                source.as_os_str(),
                "--cwd".as_ref(),
                ".".as_ref(),
                "--wit".as_ref(),
                wit.as_os_str(),
                "-n".as_ref(),
                world.as_ref(),
                "--backend".as_ref(),
                "quickjs".as_ref(),
                "--backend-qjs-disable-async".as_ref(),
                "-o".as_ref(),
                out.as_os_str(),
            ],
            &[],
        )?;
        take(&out)
    }

    fn python(&mut self) -> Result<Vec<u8>> {
        let tool = self.tool(&["componentize-py"], &self.venv())?;
        let out = self.scratch.join("component.wasm");
        let source = self.manifest.source();
        let module = source.file_stem().context("`source` is no Python file")?.to_owned();
        let place = source
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        let (wit, world) = (self.manifest.wit.clone(), self.manifest.world.name());
        self.run(
            &tool,
            &[
                "-q".as_ref(),
                "-d".as_ref(),
                wit.as_os_str(),
                "-w".as_ref(),
                world.as_ref(),
                "componentize".as_ref(),
                &module,
                "-p".as_ref(),
                place.as_os_str(),
                "-o".as_ref(),
                out.as_os_str(),
            ],
            &[],
        )?;
        take(&out)
    }

    fn c(&mut self) -> Result<Vec<u8>> {
        let compiler = self.tool(&["python-zig", "zig", "clang"], &self.venv())?;
        let bindings = self.bindings()?;
        let out = self.scratch.join("core.wasm");
        let source = self.manifest.source().to_owned();
        let [code, world] = ["policy.c", "policy_component_type.o"].map(|file| bindings.join(file));
        let is_zig = compiler.file_name() != Some(OsStr::new("clang"));
        let mut arguments: Vec<&OsStr> = Vec::new();
        arguments.extend(is_zig.then_some(OsStr::new("cc")));
        arguments.extend(
            ["--target=wasm32-wasi", "-mexec-model=reactor", "-Os", "-Wall", "-Wextra"]
                .map(OsStr::new),
        );
        arguments.extend(["-Wl,-z,stack-size=65536", "-I"].map(OsStr::new));
        arguments.extend([
            bindings.as_os_str(),
            source.as_os_str(),
            code.as_os_str(),
            world.as_os_str(),
        ]);
        arguments.extend([OsStr::new("-o"), out.as_os_str()]);
        self.run(&compiler, &arguments, &[])?;
        self.manifest.world.componentize(&take(&out)?)
    }

    /// `policy.h` and what belongs to it, made of the contract in the folder. They have that name
    /// in every world.
    fn bindings(&mut self) -> Result<PathBuf> {
        let folder = self.folder.join(BUILD).join("bindings");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut contract = Resolve::default();
        let wit = self.folder.join(&self.manifest.wit);
        let (package, _) = contract.push_path(&wit).with_context(|| wit.display().to_string())?;
        let world = contract.select_world(&[package], Some(self.manifest.world.name()))?;
        let options = wit_bindgen_c::Opts {
            rename_world: Some("policy".into()),
            ..wit_bindgen_c::Opts::default()
        };
        let mut files = Files::default();
        options.build().generate(&mut contract, world, &mut files)?;
        for (name, content) in files.iter() {
            let file = folder.join(name);
            if !fs::read(&file).is_ok_and(|before| before == content) {
                write_whole(&file, content).with_context(|| file.display().to_string())?;
            }
        }
        Ok(folder)
    }

    fn go(&mut self) -> Result<Vec<u8>> {
        let go = self.tool(&["go"], &format!("install Go 1.24 or newer, or {}", self.venv()))?;
        let out = self.scratch.join("core.wasm");
        let arguments = [
            "build",
            "-buildmode=c-shared",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
        ];
        let mut arguments: Vec<&OsStr> = arguments.map(OsStr::new).into();
        arguments.extend([out.as_os_str(), OsStr::new(".")]);
        self.run(
            &go,
            &arguments,
            &[("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")],
        )?;
        self.manifest.world.componentize(&take(&out)?)
    }

    // ----- tools -----

    fn venv(&self) -> String {
        let folder = self.shown.display();
        format!(
            "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in `{folder}`"
        )
    }

    /// The first that is there.
    fn tool(&self, names: &[&str], how: &str) -> Result<PathBuf> {
        find(&self.folder, names).ok_or_else(|| anyhow!("no `{}`: {how}", names[0]))
    }

    /// What it says on stdout goes to stderr: that is for what we say.
    fn run(&mut self, tool: &Path, arguments: &[&OsStr], variables: &[(&str, &str)]) -> Result<()> {
        self.output(tool, arguments, variables).map(|output| {
            output.lines().for_each(|line| (self.say)(line));
        })
    }

    fn output(
        &mut self,
        tool: &Path,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Result<String> {
        let name = tool.strip_prefix(&self.folder).unwrap_or(tool).display().to_string();
        let shown = self.shown_command(&name, arguments, variables);
        (self.say)(&format!("$ {shown}"));
        let mut command = Command::new(tool);
        command.args(arguments).envs(variables.iter().copied()).current_dir(&self.folder);
        let ended = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| name.clone())?;
        if !ended.status.success() {
            // What cargo says for programs is not for people.
            let said = String::from_utf8_lossy(&ended.stdout);
            said.lines()
                .filter(|line| !line.starts_with("{\"reason\""))
                .for_each(|line| (self.say)(line));
            bail!("`{name}` failed: {}", ended.status);
        }
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    fn shown_command(
        &self,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> String {
        let place = self.folder.to_string_lossy();
        let quoted = |argument: &OsStr| {
            let text = argument.to_string_lossy().replace(&format!("{place}/"), "");
            if text.contains(' ') { format!("'{text}'") } else { text }
        };
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let arguments = arguments.iter().map(|argument| quoted(argument.as_ref()));
        variables.chain([name.to_owned()]).chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

/// In the order in which they are tried: only the first makes a component.
const RUST_TARGETS: [&str; 3] = ["wasm32-wasip2", "wasm32-wasip1", "wasm32-unknown-unknown"];

/// A line that cargo says for programs.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    target: CargoTarget,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Default, Deserialize)]
struct CargoTarget {
    kind: Vec<String>,
}

impl CargoMessage {
    fn is_library(&self) -> bool {
        self.reason == "compiler-artifact" && self.target.kind.iter().any(|kind| kind == "cdylib")
    }
}

/// Looks in the folder, where versions are pinned, then on the path.
fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let own = ["node_modules/.bin", ".venv/bin"].map(|place| folder.join(place));
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = own.into_iter().chain(env::split_paths(&path)).collect();
    names
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)))
        .find(|tool| tool.is_file())
}

/// What a tool made.
fn take(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| file.display().to_string())
}

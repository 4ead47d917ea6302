//! The modules of a crate, and where a path in one of them leads.

use std::collections::BTreeMap;

use crate::source::{self, Child, ModuleSource};
use crate::tree::{Files, Package};

/// The modules of one target of a package (its library, a binary, a test, a benchmark), by path
/// from the target's root.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modules {
    modules: BTreeMap<Vec<String>, (String, ModuleSource)>,
}

/// Where a path leads: a file, and what it names there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathEnd<'a> {
    pub(crate) file: &'a str,
    pub(crate) name: String,
}

/// All targets of a package, each by its root file.
pub(crate) fn targets(package: &Package) -> impl Iterator<Item = Modules> {
    let is_root = |file: &&String| {
        let inside = file.strip_prefix(&package.folder).unwrap_or_default();
        let parts: Vec<_> = inside.split('/').skip(1).collect();
        let folders = ["tests", "benches", "examples"];
        match parts[..] {
            ["build.rs"] | ["src", "lib.rs" | "main.rs"] => true,
            [folder, _] | [folder, _, "main.rs"] => folders.contains(&folder),
            ["src", folder, _] | ["src", folder, _, "main.rs"] => folder == "bin",
            _ => false,
        }
    };
    package.files.keys().filter(is_root).map(|root| Modules::of(root, &package.files))
}

impl Modules {
    fn of(root: &str, files: &Files) -> Self {
        let mut found = Self::default();
        found.read(root, &[], &folder(root), files);
        found
    }

    /// Reads a file, which is this module, and those that it declares. Theirs are in `folder`.
    fn read(&mut self, file: &str, path: &[String], folder: &str, files: &Files) {
        let Some(code) = files.get(file) else { return };
        for module in source::modules(code) {
            let own = [path, &module.path].concat();
            let inner: String = module.path.iter().map(|name| format!("{name}/")).collect();
            for Child { name, file: other } in &module.children {
                let child = [&own[..], std::slice::from_ref(name)].concat();
                let below = format!("{folder}{inner}{name}");
                let place = match other {
                    Some(other) => normal(&format!("{}{other}", self::folder(file))),
                    None if files.contains_key(&format!("{below}.rs")) => format!("{below}.rs"),
                    None => format!("{below}/mod.rs"),
                };
                self.read(&place, &child, &format!("{below}/"), files);
            }
            self.modules.insert(own, (file.to_owned(), module));
        }
    }

    /// Each module's file and what it says.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[String], &str, &ModuleSource)> {
        self.modules.iter().map(|(path, (file, module))| (&path[..], &**file, module))
    }

    /// Where a path in this module leads, if it stays in the crate.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> Option<PathEnd<'_>> {
        let (at, rest) = self.walk(from, path, 0)?;
        let (mut file, name) = (&*self.modules.get(&at)?.0, rest.first());
        if let (true, Some(name)) = (at.is_empty(), name) {
            let exporting = |(_, module): &&(String, ModuleSource)| module.macros.contains(name);
            if let Some((other, _)) = self.modules.values().find(exporting) {
                file = other;
            }
        }
        let name = name.or(at.last()).cloned().unwrap_or_else(|| "crate".to_owned());
        Some(PathEnd { file, name })
    }

    /// The innermost module on a path, and what follows it there.
    fn walk<'p>(
        &self,
        from: &[String],
        path: &'p [String],
        depth: usize,
    ) -> Option<(Vec<String>, &'p [String])> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.to_vec(),
            "super" => from.split_last()?.1.to_vec(),
            name => self.named(from, name, depth)?,
        };
        while let Some((next, behind)) = rest.split_first() {
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if next == "super" {
                at.pop()?;
            } else if self.modules.contains_key(&child) {
                at = child;
            } else {
                break;
            }
            rest = behind;
        }
        Some((at, rest))
    }

    /// The module of this name that is a child or was imported.
    fn named(&self, from: &[String], name: &str, depth: usize) -> Option<Vec<String>> {
        let child = [from, &[name.to_owned()]].concat();
        if self.modules.contains_key(&child) {
            return Some(child);
        }
        let imports = &self.modules.get(from)?.1.imports;
        let import = imports.iter().find(|import| import.name.as_deref() == Some(name))?;
        // An import may be of its own name, as that of a crate is.
        if depth > 8 {
            return None;
        }
        let (at, rest) = self.walk(from, &import.path, depth + 1)?;
        rest.is_empty().then_some(at)
    }
}

/// The folder of a file, with its `/`.
fn folder(file: &str) -> String {
    file.rfind('/').map_or(String::new(), |end| file[..=end].to_owned())
}

/// Without `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => parts.truncate(parts.len().saturating_sub(1)),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

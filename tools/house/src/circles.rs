//! No file imports, directly or through others, a file that imports it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::modules::{Modules, targets};
use crate::tree::Package;

/// The files that each file imports, with the names that it takes from there.
type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The circles of a package, each told in lines: the files on its shortest way round, and what each
/// takes from the next.
pub fn circles(package: &Package) -> Vec<String> {
    targets(package).flat_map(|modules| told(&imports(&modules))).collect()
}

fn imports(modules: &Modules) -> Imports {
    let mut imports = Imports::new();
    for (path, file, module) in modules.iter() {
        let used = module.imports.iter().map(|import| &import.path).chain(&module.paths);
        for target in used.filter_map(|used| modules.resolve(path, used)) {
            if target.file != file {
                let from = imports.entry(file.to_owned()).or_default();
                from.entry(target.file.to_owned()).or_default().insert(target.name);
            }
        }
    }
    imports
}

fn told(imports: &Imports) -> Vec<String> {
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for file in imports.keys() {
        if done.contains(file.as_str()) || way(imports, file, file).is_none() {
            continue;
        }
        let others = imports.keys().filter(|other| {
            way(imports, file, other).is_some() && way(imports, other, file).is_some()
        });
        let files: Vec<&str> = others.map(String::as_str).collect();
        let ways = files.iter().filter_map(|file| way(imports, file, file));
        let Some(shortest) = ways.min_by_key(Vec::len) else { continue };
        let mut text = format!("{} files import each other, such as", files.len());
        for step in shortest.windows(2) {
            let names: Vec<_> = imports[step[0]][step[1]].iter().map(String::as_str).collect();
            text += &format!("\n  {} takes {} from {}", step[0], names.join(", "), step[1]);
        }
        circles.push(text);
        done.extend(files);
    }
    circles
}

/// The shortest way along imports, of one step at least.
fn way<'a>(imports: &'a Imports, from: &str, to: &str) -> Option<Vec<&'a str>> {
    let (from, _) = imports.get_key_value(from)?;
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from.as_str()]);
    while let Some(file) = queue.pop_front() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if before.contains_key(next.as_str()) {
                continue;
            }
            before.insert(next, file);
            if next == to {
                let mut way = vec![next.as_str()];
                while way.len() == 1 || way[way.len() - 1] != from {
                    way.push(before[way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            queue.push_back(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate with these files.
    fn package<const N: usize>(files: [(&str, &str); N]) -> Package {
        let file = |(name, code): (&str, &str)| (format!("host/x/{name}"), code.to_owned());
        Package { folder: "host/x".into(), files: files.into_iter().map(file).collect() }
    }

    #[test]
    fn a_circle_is_told_file_by_file() {
        let found = circles(&package([
            ("src/lib.rs", "mod a; mod b; mod c; use a::A;"),
            ("src/a.rs", "use crate::b::{B, make}; pub struct A;"),
            ("src/b.rs", "pub fn make() {} use super::c::C;"),
            ("src/c.rs", "use crate::a;"),
        ]));
        assert_eq!(
            found,
            ["3 files import each other, such as\n  \
              host/x/src/a.rs takes B, make from host/x/src/b.rs\n  \
              host/x/src/b.rs takes C from host/x/src/c.rs\n  \
              host/x/src/c.rs takes a from host/x/src/a.rs"]
        );
    }

    #[test]
    fn the_shortest_way_round_is_told() {
        let found = circles(&package([
            ("src/main.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use crate::b::B; use crate::c::C;"),
            ("src/b.rs", "use crate::c::C;"),
            ("src/c.rs", "use crate::a::A;"),
        ]));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("3 files"), "{}", found[0]);
        assert_eq!(found[0].lines().count(), 3, "{}", found[0]);
    }

    #[test]
    fn what_a_crate_re_exports_is_its_own() {
        let with = |child: &str| {
            circles(&package([
                ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
                ("src/a.rs", "pub struct A;"),
                ("src/b.rs", child),
            ]))
        };
        assert_eq!(with("use crate::a::A; pub struct B(A);"), Vec::<String>::new());
        let circles = with("use crate::A; pub struct B(A);");
        assert!(circles[0].contains("b.rs takes A from host/x/src/lib.rs"), "{circles:?}");
    }

    #[test]
    fn an_inline_path_is_an_import() {
        let with = |parent: &str| {
            circles(&package([
                ("src/lib.rs", "pub mod a;"),
                ("src/a.rs", parent),
                ("src/a/b.rs", "pub fn f() { super::g() }"),
            ]))
        };
        assert_eq!(with("mod b; pub fn g() {}"), Vec::<String>::new());
        assert_eq!(with("mod b; pub fn g() { b::f() }").len(), 1);
        assert_eq!(with("mod b; pub fn g() { crate::a::b::f() }").len(), 1);
        assert_eq!(with("mod b; pub fn g() { self::b::f() }").len(), 1);
        assert_eq!(with("mod b; use b as other; pub fn g() { other::f() }").len(), 1);
        assert_eq!(with("mod b; /* b::f() */ pub fn g() { \"b::f()\"; c::f() }").len(), 0);
    }

    #[test]
    fn what_is_for_tests_only_does_not_count() {
        assert_eq!(
            circles(&package([
                ("src/lib.rs", "mod a; mod b;"),
                ("src/a.rs", "#[cfg(test)] mod tests { use super::*; use crate::b::B; }"),
                ("src/b.rs", "use crate::a::A; #[cfg(test)] mod tests;"),
                ("src/b/tests.rs", "use super::*;"),
            ])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_module_within_a_file_is_the_file() {
        let found = circles(&package([
            ("src/lib.rs", "mod a { pub mod b; pub struct A; }"),
            ("src/a/b.rs", "use super::A;"),
        ]));
        assert_eq!(found, Vec::<String>::new());
        let found = circles(&package([
            ("src/lib.rs", "mod a { pub mod b; pub struct A; fn f() { b::f() } }"),
            ("src/a/b.rs", "use super::A; pub fn f() {}"),
        ]));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_exported_macro_is_where_it_is_defined() {
        let found = circles(&package([
            ("src/main.rs", "mod say; mod a; fn main() { a::f() }"),
            ("src/say.rs", "#[macro_export] macro_rules! say { () => {} }"),
            ("src/a.rs", "use crate::say; pub fn f() { say!() }"),
        ]));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn tests_and_binaries_are_looked_at_too() {
        for root in ["tests/it/main.rs", "benches/b/main.rs", "src/bin/b/main.rs"] {
            let (folder, _) = root.rsplit_once('/').unwrap();
            let (one, other) = (format!("{folder}/one.rs"), format!("{folder}/other.rs"));
            let found = circles(&package([
                (root, "mod one; mod other;"),
                (&one, "use crate::other::f;"),
                (&other, "use crate::one::g;"),
            ]));
            assert_eq!(found.len(), 1, "{root}");
        }
    }
}

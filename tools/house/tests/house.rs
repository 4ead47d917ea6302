//! The repository as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fusebox_house::circles::circles;
use fusebox_house::lines::too_long;
use fusebox_house::names::declared_twice;
use fusebox_house::tree::{Package, packages};
use fusebox_house::unsafety::{files_told_of, files_with_unsafe};

/// Files with lines that can't be broken, and why.
const MAY_HAVE_LONG_LINES: [(&str, &str); 2] = [
    (
        "host/proxy/src/observe/log/tests/access_lines.rs",
        "the log's lines are compared as they are written",
    ),
    (
        "host/proxy/src/observe/log/tests/events.rs",
        "the log's lines are compared as they are written",
    ),
];

/// It is for tests. Its types stand for things of the product, and are named after them.
const FOR_TESTS: &str = "host/dev";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn workspace() -> Vec<Package> {
    let packages = packages(&root()).expect("the repository");
    for folder in [FOR_TESTS, "tools/house"] {
        assert!(packages.iter().any(|package| package.folder == folder), "{folder} is not there");
    }
    packages
}

#[test]
fn no_file_imports_a_file_that_imports_it() {
    let found: Vec<_> = workspace().iter().flat_map(circles).collect();
    let told = found.join("\n\n");
    assert!(found.is_empty(), "{told}\n\nMove what both need into a file of its own.");
}

#[test]
fn no_type_name_is_declared_twice() {
    let mut packages = workspace();
    packages.retain(|package| package.folder != FOR_TESTS);
    let found = declared_twice(&packages);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_line_is_too_long() {
    let found: Vec<_> = workspace().iter().flat_map(too_long_without_reason).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let all: Vec<_> = workspace().iter().flat_map(too_long).collect();
    for (file, _) in MAY_HAVE_LONG_LINES {
        assert!(all.iter().any(|line| is_in(line, file)), "{file} has none: take it off the list");
    }
}

#[test]
fn unsafe_code_is_where_the_document_says() {
    let mut packages = workspace();
    packages.retain(|package| package.folder.starts_with("host/") && package.folder != FOR_TESTS);
    let found: BTreeSet<_> = packages.iter().flat_map(files_with_unsafe).collect();
    let document = fs::read_to_string(root().join("SECURITY.md")).expect("the document");
    assert_eq!(files_told_of(&document), found);
}

fn too_long_without_reason(package: &Package) -> Vec<String> {
    let mut found = too_long(package);
    found.retain(|line| !MAY_HAVE_LONG_LINES.iter().any(|(file, _)| is_in(line, file)));
    found
}

fn is_in(line: &str, file: &str) -> bool {
    line.strip_prefix(file).is_some_and(|rest| rest.starts_with(':'))
}

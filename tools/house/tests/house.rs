//! The repository as it is.

use std::path::Path;

use fusebox_house::circles::circles;
use fusebox_house::lines::too_long;
use fusebox_house::names::declared_twice;
use fusebox_house::tree::{Package, packages};

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

/// Its types stand for things of the product in tests, and are named after them.
const NAMED_AFTER_THE_PRODUCT: &str = "host/dev";

fn workspace() -> Vec<Package> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packages = packages(&root).expect("the repository");
    for folder in [NAMED_AFTER_THE_PRODUCT, "tools/house"] {
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
    packages.retain(|package| package.folder != NAMED_AFTER_THE_PRODUCT);
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

fn too_long_without_reason(package: &Package) -> Vec<String> {
    let mut found = too_long(package);
    found.retain(|line| !MAY_HAVE_LONG_LINES.iter().any(|(file, _)| is_in(line, file)));
    found
}

fn is_in(line: &str, file: &str) -> bool {
    line.strip_prefix(file).is_some_and(|rest| rest.starts_with(':'))
}

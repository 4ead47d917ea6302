//! The repository as it is.

use std::path::Path;

use fusebox_house::circles::circles;
use fusebox_house::lines::too_long;
use fusebox_house::names::declared_twice;
use fusebox_house::tree::{Package, packages};

/// Crates that are still to be put in order: their circles, names and long lines are left alone.
const STILL_TO_DO: [&str; 2] = ["host/proxy", "host/wasm"];

/// Its types stand for things of the product in tests, and are named after them.
const NAMED_AFTER_THE_PRODUCT: &str = "host/dev";

fn workspace() -> Vec<Package> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packages = packages(&root).expect("the repository");
    for folder in STILL_TO_DO.iter().chain(&[NAMED_AFTER_THE_PRODUCT, "tools/house"]) {
        assert!(packages.iter().any(|package| package.folder == *folder), "{folder} is not there");
    }
    packages
}

/// The crates that have to be in order.
fn checked() -> Vec<Package> {
    let mut packages = workspace();
    packages.retain(|package| !STILL_TO_DO.contains(&&*package.folder));
    packages
}

#[test]
fn no_file_imports_a_file_that_imports_it() {
    let found: Vec<_> = checked().iter().flat_map(circles).collect();
    let told = found.join("\n\n");
    assert!(found.is_empty(), "{told}\n\nMove what both need into a file of its own.");
}

#[test]
fn no_type_name_is_declared_twice() {
    let mut packages = checked();
    packages.retain(|package| package.folder != NAMED_AFTER_THE_PRODUCT);
    let found = declared_twice(&packages);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_line_is_too_long() {
    let found: Vec<_> = checked().iter().flat_map(too_long).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_still_to_do_becomes_less() {
    let packages = workspace();
    for folder in STILL_TO_DO {
        let package = packages.iter().find(|package| package.folder == folder);
        let is_done =
            |package: &Package| circles(package).is_empty() && too_long(package).is_empty();
        assert!(!package.is_some_and(is_done), "{folder} is done: take it off the list");
    }
}

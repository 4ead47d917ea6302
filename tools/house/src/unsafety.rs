//! Which files of the product may have `unsafe` in them, and what the document says of that.

use std::collections::BTreeSet;

use crate::tree::Package;

/// What allows it.
const ALLOWANCE: &str = "unsafe_code";

/// The files that allow it, but for those of tests.
pub fn files_with_unsafe(package: &Package) -> impl Iterator<Item = &str> {
    let allow = package.files.iter().filter(|(_, code)| code.contains(ALLOWANCE));
    allow.map(|(file, _)| &**file).filter(|file| file.contains("/src/"))
}

/// The Rust files that are named in the paragraph that speaks of it.
pub fn files_told_of(document: &str) -> BTreeSet<&str> {
    let paragraphs = document.split("\n\n").filter(|paragraph| paragraph.contains(ALLOWANCE));
    let words = paragraphs.flat_map(|paragraph| paragraph.split('`'));
    words.filter(|word| word.ends_with(".rs")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_allows_it_is_found_and_so_is_one_that_is_named() {
        let allows = "#![expect(unsafe_code, reason = \"so\")]".to_owned();
        let file = |name: &str, code: &str| (format!("host/a/{name}"), code.to_owned());
        let files =
            [file("src/a.rs", &allows), file("src/b.rs", "fn b() {}"), file("tests/c.rs", &allows)];
        let package = Package { folder: "host/a".into(), files: files.into() };
        assert_eq!(files_with_unsafe(&package).collect::<Vec<_>>(), ["host/a/src/a.rs"]);

        let document = "See `c.rs`.\n\n`unsafe_code` is denied, but in `host/a/src/a.rs`\n\
                        and `host/a/src/b.rs`.\n\nAnd so on: `d.rs`.";
        let told: BTreeSet<_> = ["host/a/src/a.rs", "host/a/src/b.rs"].into();
        assert_eq!(files_told_of(document), told);
    }
}

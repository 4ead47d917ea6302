//! No type name is declared twice among the crates.

use std::collections::BTreeMap;

use crate::modules::targets;
use crate::tree::Package;

/// The names that the packages' `src` folders declare twice, each with the files that declare it.
/// Types within functions and associated types do not count.
pub fn declared_twice<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<String> {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        for modules in targets(package) {
            for (_, file, module) in modules.iter() {
                if file.starts_with(&format!("{}/src/", package.folder)) {
                    for name in &module.types {
                        declared.entry(name.clone()).or_default().push(file.to_owned());
                    }
                }
            }
        }
    }
    declared.retain(|_, files| files.len() > 1);
    let told = |(name, files): (String, Vec<String>)| format!("{name}: {}", files.join(", "));
    declared.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_two_crates_declare_is_told() {
        let package = |folder: &str, code: &str| Package {
            folder: folder.into(),
            files: [
                (format!("{folder}/src/lib.rs"), code.to_owned()),
                (format!("{folder}/tests/it.rs"), "struct State;".to_owned()),
            ]
            .into(),
        };
        let packages = [
            package("host/a", "struct State; trait Twice {} mod m { enum Twice {} }"),
            package("host/b", "type State = u8; #[cfg(test)] mod tests { struct Twice; }"),
            package("host/c", "impl Iterator for X { type State = u8; }"),
        ];
        assert_eq!(
            declared_twice(&packages),
            [
                "State: host/a/src/lib.rs, host/b/src/lib.rs",
                "Twice: host/a/src/lib.rs, host/a/src/lib.rs",
            ]
        );
        assert_eq!(declared_twice(&packages[1..]), Vec::<String>::new());
    }
}

//! No line is longer than 100 columns.

use crate::tree::Package;

/// The longest that a line may be.
pub const COLUMNS: usize = 100;

/// The lines that are longer, as `file:line: columns`.
pub fn too_long(package: &Package) -> Vec<String> {
    let mut found = Vec::new();
    for (file, code) in &package.files {
        for (index, line) in code.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                found.push(format!("{file}:{}: {columns} columns", index + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_letters() {
        let code = format!("{}\n{}\n", "ü".repeat(100), "x".repeat(101));
        let files = [("host/a/src/lib.rs".to_owned(), code)].into();
        assert_eq!(
            too_long(&Package { folder: "host/a".into(), files }),
            ["host/a/src/lib.rs:2: 101 columns"]
        );
    }
}

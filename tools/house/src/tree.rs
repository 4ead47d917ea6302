//! The files that are looked at.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Text by the path of the file, which is relative to the repository and has `/` in it.
pub type Files = BTreeMap<String, String>;

/// Where crates are, a folder each.
const ROOMS: [&str; 3] = ["host", "tools", "examples"];

/// What is no code of the workspace: what was built, what is copied for users, other workspaces.
const LEFT_OUT: [&str; 3] = ["target", "templates", "fuzz"];

/// A crate's folder and its Rust files.
#[derive(Clone, Debug)]
pub struct Package {
    /// Such as `host/proxy`.
    pub folder: String,
    /// All below that.
    pub files: Files,
}

/// The crates of the repository that is here.
///
/// # Errors
/// They can't be read.
pub fn packages(root: &Path) -> io::Result<Vec<Package>> {
    let mut packages = Vec::new();
    for room in ROOMS {
        for entry in fs::read_dir(root.join(room))? {
            let path = entry?.path();
            if path.join("Cargo.toml").is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let folder = format!("{room}/{name}");
                let mut files = Files::new();
                read(&path, &folder, &mut files)?;
                packages.push(Package { folder, files });
            }
        }
    }
    packages.sort_by(|one, other| one.folder.cmp(&other.folder));
    Ok(packages)
}

fn read(directory: &Path, name: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() && !LEFT_OUT.contains(&&*file) {
            read(&path, &name, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

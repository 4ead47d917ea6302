//! Replaces a component's file atomically and durably: a reader, and a restart after a power
//! failure, finds the old or the new file, complete.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::Builder;

use crate::artifact::Artifact;

/// Writes `artifact` to `file`, and keeps the previous content in `FILE.previous`. Returns `false`
/// if there was no previous file, or it had the same content.
///
/// A symbolic link stays one: its target is replaced.
///
/// # Errors
/// The directory can't be written to. The file is unchanged.
pub(super) fn store(file: &Path, artifact: &Artifact) -> anyhow::Result<bool> {
    let file = target(file)?;
    let old = match fs::symlink_metadata(&file) {
        Ok(old) if old.is_file() => Some(old.permissions()),
        Ok(old) if old.is_symlink() => bail!("is a symbolic link to nothing"),
        // Replacing a device, for example, would remove it.
        Ok(_) => bail!("is not a regular file"),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    // A file that can't be read, or is too long, is kept too.
    if Artifact::read(&file).is_ok_and(|old| old.digest() == artifact.digest()) {
        return Ok(false);
    }
    let directory = directory(&file);
    remove_abandoned(directory, &file);
    let mut new = Builder::new().prefix(&temporary_prefix(&file)).tempfile_in(directory)?;
    new.write_all(artifact.bytes())?;
    new.as_file().set_permissions(old.clone().unwrap_or_else(|| Permissions::from_mode(0o644)))?;
    new.as_file().sync_all()?;
    if old.is_some() {
        keep(&file)
            .with_context(|| format!("can't keep what was there as {}", kept(&file).display()))?;
    }
    new.persist(&file).map_err(|error| error.error)?;
    sync(directory)?;
    Ok(old.is_some())
}

/// Restores the content that `file` had before `replaced`, if both files are unchanged. The
/// arguments are digests in hex.
///
/// # Errors
/// One of them has changed, or the directory can't be written to.
pub(super) fn put_back(file: &Path, replaced: &str, previous: &str) -> anyhow::Result<()> {
    let file = target(file)?;
    ensure!(**Artifact::read(&file)?.digest() == *replaced, "it was changed since");
    let kept = kept(&file);
    let found = Artifact::read(&kept).with_context(|| kept.display().to_string())?;
    ensure!(**found.digest() == *previous, "{} is another version", kept.display());
    fs::rename(&kept, &file)?;
    sync(directory(&file))
}

/// Keeps the previous file as a hard link, so that the file always exists.
fn keep(file: &Path) -> anyhow::Result<()> {
    let kept = kept(file);
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    if fs::hard_link(file, &kept).is_err() {
        // Some file systems have no hard links.
        fs::copy(file, &kept)?;
        File::open(&kept)?.sync_all()?;
    }
    Ok(())
}

/// The file itself, behind symbolic links; it need not exist.
fn target(file: &Path) -> anyhow::Result<PathBuf> {
    match fs::canonicalize(file) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(file.to_owned()),
        Err(error) => Err(error.into()),
    }
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn kept(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

fn temporary_prefix(file: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(file.file_name().unwrap_or_default());
    prefix.push(".push-");
    prefix
}

/// Removes temporary files of a push that was killed. Pushes run one at a time, in one process.
fn remove_abandoned(directory: &Path, file: &Path) {
    let prefix = temporary_prefix(file);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn sync(directory: &Path) -> anyhow::Result<()> {
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn artifact(text: &str) -> Artifact {
        Artifact::new(text.into())
    }

    #[test]
    fn the_previous_file_is_kept_and_can_be_put_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("c.wasm");
        let reads = |path: &Path| fs::read_to_string(path).expect("a file");
        assert!(
            !store(&file, &artifact("one")).expect("nothing was there"),
            "there is nothing to put back"
        );
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
        assert!(!store(&file, &artifact("one")).expect("it is there"));
        assert!(store(&file, &artifact("two")).expect("it is written"));
        assert_eq!((reads(&file), reads(&kept(&file))), ("two".into(), "one".into()));
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        let (one, two) = (artifact("one").digest().clone(), artifact("two").digest().clone());
        put_back(&file, &one, &two).expect_err("it has something else");
        put_back(&file, &two, &two).expect_err("what was kept is something else");
        put_back(&file, &two, &one).expect("both are as they were left");
        assert_eq!(reads(&file), "one");
        assert!(!kept(&file).exists());
    }

    #[test]
    fn a_symbolic_link_stays_one_and_what_was_abandoned_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let (real, link) = (directory.path().join("real.wasm"), directory.path().join("link.wasm"));
        fs::write(&real, "one").expect("a file");
        symlink("real.wasm", &link).expect("a link");
        let abandoned = directory.path().join(".real.wasm.push-1");
        fs::write(&abandoned, "half").expect("a file");
        assert!(store(&link, &artifact("two")).expect("it is written"));
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink() && !abandoned.exists());
        assert_eq!(fs::read_to_string(&real).expect("a file"), "two");
    }

    #[test]
    fn only_a_regular_file_is_replaced_and_whatever_was_in_it_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("c.wasm");
        symlink("absent.wasm", &file).expect("a link");
        let error = store(&file, &artifact("one")).expect_err("it leads nowhere");
        assert_eq!(error.to_string(), "is a symbolic link to nothing");
        fs::remove_file(&file).expect("it was there");
        fs::create_dir(&file).expect("a directory");
        assert_eq!(
            store(&file, &artifact("one")).expect_err("a directory").to_string(),
            "is not a regular file"
        );
        fs::remove_dir(&file).expect("it was there");
        let long = File::create(&file).expect("a file");
        long.set_len(100 << 20).expect("it is sparse");
        assert!(store(&file, &artifact("one")).expect("it is written"));
        assert_eq!(fs::metadata(kept(&file)).expect("it is kept").len(), 100 << 20);
        fs::remove_file(kept(&file)).expect("it was there");
        fs::create_dir(kept(&file)).expect("a directory");
        let error = store(&file, &artifact("two")).expect_err("there is no place for it");
        assert!(error.to_string().contains("c.wasm.previous"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "one");
    }
}

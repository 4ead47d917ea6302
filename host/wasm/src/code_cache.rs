//! Compiled code on disk, so that a component is compiled once and not at every start.
//!
//! Whoever can write to the directory decides what the proxy runs as machine code. So it must be
//! one that only this user (and root) can change, and what is in it is still held against a digest:
//! a torn or foreign entry is removed and made anew. Nothing that goes wrong here is more than a
//! cache miss.
//!
//! An entry is two files, `KEY.code` and, written after it, `KEY.sha256`. Files are put in place by
//! renaming and never written to again, so any number of processes may share the directory, and
//! code that is mapped stays as it was when its entry is replaced or removed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use fusebox_resilience::config::ConfigSize;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The most entries, whatever their size.
const MOST_ENTRIES: usize = 1024;

/// A file that is still temporary after this time was left by a process that crashed.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

const CODE: &str = "code";
const DIGEST: &str = "sha256";
const TEMPORARY: &str = "tmp";

/// Others may write: group or world.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A directory of compiled code.
#[derive(Debug)]
pub struct CodeCache {
    /// Without symbolic links, so that where it leads stays what was checked.
    directory: PathBuf,
    max_size: ConfigSize,
}

/// The key of code: the component, and every setting of the engine that affects it.
#[derive(Debug)]
pub(crate) struct Key(String);

impl Key {
    /// For the component of this SHA-256.
    pub(crate) fn new(digest: &str, engine: &Engine) -> Self {
        let mut fingerprint = Fingerprint(Sha256::new());
        // Counts the changes of what is done to a component before it is compiled.
        fingerprint.write(b"fusebox code 2\n");
        fingerprint.write(digest.as_bytes());
        engine.precompile_compatibility_hash().hash(&mut fingerprint);
        Self(hex(&fingerprint.0.finalize()))
    }
}

/// SHA-256 as a `Hasher`: 64 bits are too few to identify machine code.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the whole digest is taken.
    fn finish(&self) -> u64 {
        0
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl CodeCache {
    /// Total size of the code that is kept, unless [`with_max_size`](Self::with_max_size) says
    /// otherwise.
    pub const DEFAULT_SIZE: ConfigSize = ConfigSize::gib(1);

    /// Uses `directory`, which is made, for this user alone, if it is not there. Removes what
    /// crashed processes left in it more than an hour ago.
    ///
    /// # Errors
    /// It can't be made, is a symbolic link, or somebody other than this user and root could write
    /// to it or put another in its place.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        // Those above it that are missing too.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("`{}` can't be made", directory.display()))?;
        let metadata = fs::symlink_metadata(directory)?;
        ensure!(!metadata.is_symlink(), "`{}` is a symbolic link", directory.display());
        let directory = fs::canonicalize(directory)?;
        let metadata = fs::symlink_metadata(&directory)?;
        let (shown, uid) = (directory.display(), geteuid().as_raw());
        ensure!(
            metadata.uid() == uid,
            "`{shown}` belongs to user {}, expected {uid}",
            metadata.uid()
        );
        let mode = metadata.mode() & 0o7777;
        ensure!(
            mode & WRITABLE_BY_OTHERS == 0,
            "`{shown}` can be written to by others (mode {mode:o}), expected 700"
        );
        for above in directory.ancestors().skip(1) {
            let metadata = fs::symlink_metadata(above)?;
            let mode = metadata.mode() & 0o7777;
            let is_ours = metadata.uid() == uid || metadata.uid() == 0;
            // In a sticky one only the owner of an entry may move it.
            let is_fixed = is_ours && (mode & WRITABLE_BY_OTHERS == 0 || mode & STICKY != 0);
            ensure!(
                is_fixed,
                "`{shown}` could be replaced by others: they can write to `{}`",
                above.display()
            );
        }
        let cache = Self { directory, max_size: Self::DEFAULT_SIZE };
        cache.clean();
        Ok(cache)
    }

    /// Keeps so much code at most; what was used least recently goes first.
    pub fn with_max_size(self, max_size: ConfigSize) -> Self {
        Self { max_size, ..self }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.directory.join(&key.0).with_extension(extension)
    }

    /// The component that was stored under `key`, mapped from its file. An entry that is not as it
    /// was stored is removed.
    pub(crate) fn load(&self, key: &Key, engine: &Engine) -> Option<Component> {
        let loaded = match self.open_verified(key) {
            Ok(mut code) => component_in(&mut code, engine),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !self.path(key, CODE).exists() =>
            {
                return None;
            }
            Err(_) => None,
        };
        if loaded.is_none() {
            self.remove(&key.0);
        }
        loaded
    }

    /// The code of an entry that is whole and ours; notes that it is used. The file is opened once:
    /// what was verified is what is used, whatever takes its name meanwhile.
    fn open_verified(&self, key: &Key) -> io::Result<File> {
        let mut expected = String::new();
        self.open_entry(key, DIGEST)?.take(128).read_to_string(&mut expected)?;
        let mut code = self.open_entry(key, CODE)?;
        let mut found = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match code.read(&mut buffer)? {
                0 => break,
                read => found.update(&buffer[..read]),
            }
        }
        if hex(&found.finalize()) != expected {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // Without it the entry goes sooner than it should.
        futimens(&code, &Timestamps { last_access: omit, last_modification: now }).ok();
        Ok(code)
    }

    fn open_entry(&self, key: &Key, extension: &str) -> io::Result<File> {
        // Without NONBLOCK, opening a pipe would block until a writer opens it.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(self.path(key, extension))?;
        let metadata = file.metadata()?;
        let is_ours =
            metadata.uid() == geteuid().as_raw() && metadata.mode() & WRITABLE_BY_OTHERS == 0;
        if metadata.is_file() && is_ours {
            Ok(file)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// Stores `code` under `key`, and evicts entries that exceed the limits. Returns `false` if it
    /// could not be stored, which is harmless.
    pub(crate) fn store(&self, key: &Key, code: &[u8]) -> bool {
        if code.len() as u64 > self.max_size.0 {
            return false;
        }
        let digest = hex(&Sha256::digest(code));
        let stored =
            self.put(key, CODE, code).and_then(|()| self.put(key, DIGEST, digest.as_bytes()));
        if stored.is_err() {
            self.remove(&key.0);
        }
        self.make_room(key);
        stored.is_ok()
    }

    /// Writes a file atomically and durably.
    fn put(&self, key: &Key, extension: &str, content: &[u8]) -> io::Result<()> {
        // The directory may have been removed.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let unique = RandomState::new().build_hasher().finish();
        let temporary =
            self.directory.join(format!("{}.{extension}.{unique:016x}.{TEMPORARY}", key.0));
        let put = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path(key, extension))
        };
        put().inspect_err(|_| {
            fs::remove_file(&temporary).ok();
        })
    }

    fn remove(&self, key: &str) {
        for extension in [DIGEST, CODE] {
            let path = self.directory.join(key).with_extension(extension);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() == io::ErrorKind::IsADirectory
            {
                fs::remove_dir_all(&path).ok();
            }
        }
    }

    /// Removes the entries that were used least recently until the rest is within bounds. The one
    /// under `newest` stays.
    fn make_room(&self, newest: &Key) {
        let mut entries: BTreeMap<String, (SystemTime, u64)> = BTreeMap::new();
        for (path, metadata) in self.files() {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let (Some(key), Some(CODE | DIGEST)) =
                (path.file_stem().and_then(|stem| stem.to_str()), extension)
            else {
                continue;
            };
            let entry = entries.entry(key.to_owned()).or_insert((SystemTime::UNIX_EPOCH, 0));
            entry.0 = entry.0.max(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            entry.1 += metadata.len();
        }
        let (mut count, mut size) =
            (entries.len(), entries.values().map(|(_, size)| size).sum::<u64>());
        let mut oldest: Vec<_> = entries.into_iter().filter(|(key, _)| *key != newest.0).collect();
        oldest.sort_by_key(|(_, (used, _))| *used);
        for (key, (_, length)) in oldest {
            if count <= MOST_ENTRIES && size <= self.max_size.0 {
                return;
            }
            self.remove(&key);
            count -= 1;
            size -= length;
        }
    }

    fn clean(&self) {
        for (path, metadata) in self.files() {
            let is_temporary = path.extension().is_some_and(|extension| extension == TEMPORARY);
            let is_old = || metadata.modified().ok()?.elapsed().ok().map(|age| age > ABANDONED);
            if is_temporary && is_old() == Some(true) {
                fs::remove_file(path).ok();
            }
        }
    }

    /// The cache's own files in the directory, as far as they are readable; other files are
    /// ignored.
    fn files(&self) -> impl Iterator<Item = (PathBuf, Metadata)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
        ours.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
    }
}

/// The component whose code was verified in this file.
fn component_in(code: &mut File, engine: &Engine) -> Option<Component> {
    // wasmtime maps only what it opens by a name. This one leads to the open file itself.
    let open = format!("/proc/self/fd/{}", code.as_raw_fd());
    #[expect(unsafe_code, reason = "the only way to run code that was compiled before")]
    // SAFETY: the file has the digest that was stored with it, and is in a directory in which only
    // this user can put files; those that do are processes of this program, and put in only what
    // `precompile_component` made for this key. No file is written to once it has its name, so
    // what is mapped stays what it is.
    let mapped = unsafe { Component::deserialize_file(engine, open) };
    // Without `/proc`, and where programs can't be run from, code can't be mapped, but it can be
    // copied.
    mapped.ok().or_else(|| {
        let mut copy = Vec::new();
        code.rewind().ok()?;
        code.read_to_end(&mut copy).ok()?;
        #[expect(unsafe_code, reason = "the only way to run code that was compiled before")]
        // SAFETY: as above.
        unsafe { Component::deserialize(engine, copy) }.ok()
    })
}

/// Whether a file of this name is an entry's: `KEY.code` or `KEY.sha256`, or one of these on its
/// way there.
fn is_ours(name: &str) -> bool {
    let mut parts = name.split('.');
    let is_hex = |part: Option<&str>, digits: usize| {
        part.is_some_and(|part| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_entry = is_hex(parts.next(), 64) && matches!(parts.next(), Some(CODE | DIGEST));
    match parts.next() {
        None => is_entry,
        unique => {
            is_entry
                && is_hex(unique, 16)
                && parts.next() == Some(TEMPORARY)
                && parts.next().is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::codegen::code_of;
    use crate::engine::config;

    #[test]
    fn only_names_of_entries_are_ours() {
        let key = "0f".repeat(32);
        for ours in [
            format!("{key}.code"),
            format!("{key}.sha256"),
            format!("{key}.code.00112233445566ff.tmp"),
        ] {
            assert!(is_ours(&ours), "{ours}");
        }
        let others = [
            "thesis.tmp".into(),
            "main.code".into(),
            format!("{key}.tmp"),
            format!("{key}.code.x.tmp"),
        ];
        for other in others
            .into_iter()
            .chain([format!("{key}.code.00112233445566ff"), format!("{key}x.code")])
        {
            assert!(!is_ours(&other), "{other}");
        }
    }

    #[test]
    fn what_was_verified_is_what_is_used() {
        let engine = Engine::new(&config()).expect("an engine");
        let place = tempfile::tempdir().expect("a directory");
        let cache = CodeCache::open(&place.path().join("cache")).expect("it is ours");
        let key = Key::new("a", &engine);
        let code = code_of(&engine, &wat::parse_str("(component)").expect("it is one"));
        assert!(cache.store(&key, &code.expect("it compiles")));
        let mut verified = cache.open_verified(&key).expect("it is as it was stored");
        fs::write(place.path().join("other"), "no code at all").expect("a file");
        fs::rename(place.path().join("other"), cache.path(&key, CODE)).expect("a file");
        assert!(component_in(&mut verified, &engine).is_some());
        assert!(cache.load(&key, &engine).is_none());
    }

    #[test]
    fn code_of_another_component_or_of_other_settings_has_another_key() {
        let engine = |config| Engine::new(&config).expect("an engine");
        let ours = Key::new("a", &engine(config())).0;
        assert_eq!(Key::new("a", &engine(config())).0, ours);
        assert_eq!(ours.len(), 64);
        let mut other = config();
        other.epoch_interruption(false);
        assert_ne!(Key::new("a", &engine(other)).0, ours);
        assert_ne!(Key::new("b", &engine(config())).0, ours);
    }
}

//! Where code comes from: the cache and what may happen to it, a child and how it may end.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fusebox_resilience::config::ConfigSize;
use fusebox_resilience::testing::Recorder;
use fusebox_resilience::{ComponentEvent, Observers};
use fusebox_wasm::author::inspect;
use fusebox_wasm::{CodeCache, Compiler, ComponentConfig, ComponentMemory, Components};
use tempfile::TempDir;

use crate::guest::predicate;
use crate::support::NAME;

const ALWAYS: &str = "(i32.const 1)";

/// A directory with a component and a cache in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a directory"));
        place.write(&predicate(ALWAYS));
        place
    }

    fn write(&self, component: &[u8]) {
        fs::write(self.0.path().join("guest.wasm"), component).expect("a file");
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn compiler(&self) -> Compiler {
        Compiler::in_process().with_cache(CodeCache::open(&self.cache()).expect("it is ours"))
    }

    fn load(&self, compiler: &Compiler) -> Result<(), String> {
        let configs = BTreeMap::from([(NAME.to_owned(), ComponentConfig::new("guest.wasm"))]);
        match Components::load(
            configs,
            self.0.path(),
            compiler.clone(),
            ComponentMemory::default(),
            Observers::default(),
        ) {
            Ok(_) => Ok(()),
            Err(failures) => Err(format!("{:#}", failures[0].1)),
        }
    }

    /// Starts anew, and tells how often it compiled and how often it did not have to.
    #[track_caller]
    fn started(&self) -> (u64, u64) {
        let compiler = self.compiler();
        self.load(&compiler).expect("it is good");
        (compiler.compiled(), compiler.cached())
    }

    /// The names in the cache with this end.
    fn entries(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    #[track_caller]
    fn entry(&self, extension: &str) -> PathBuf {
        let entries = self.entries(extension);
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

const COMPILED: (u64, u64) = (1, 0);
const CACHED: (u64, u64) = (0, 1);

// ===== the cache =====

#[test]
fn a_component_is_compiled_once_and_not_at_each_start() {
    let place = Place::new();
    assert_eq!(place.started(), COMPILED);
    assert_eq!(place.started(), CACHED);
    place.write(&predicate("(i32.const 0)"));
    assert_eq!(place.started(), COMPILED);
    assert_eq!(place.entries("code").len(), 2);
    place.write(&predicate(ALWAYS));
    assert_eq!(place.started(), CACHED);
    let compiler = place.compiler();
    assert!(
        inspect(&place.0.path().join("guest.wasm"), compiler.clone())
            .expect("it can be read")
            .is_acceptable()
    );
    assert_eq!((compiler.compiled(), compiler.cached()), CACHED, "and an inspection needs it once");
}

#[test]
fn nobody_else_can_read_or_write_it() {
    let place = Place::new();
    place.started();
    assert_eq!(
        [mode(&place.cache()), mode(&place.entry("code")), mode(&place.entry("sha256"))],
        [0o700, 0o600, 0o600]
    );
    assert!(place.entries("tmp").is_empty());
}

#[test]
fn an_entry_that_is_not_as_it_was_stored_is_made_anew() {
    let place = Place::new();
    place.started();
    let (code, digest) = (place.entry("code"), place.entry("sha256"));
    let good = fs::read(&code).expect("a file");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let ways: [(&str, &dyn Fn()); 10] = [
        ("a bit of the code", &|| fs::write(&code, &flipped).expect("a file")),
        ("half the code", &|| fs::write(&code, &good[..good.len() / 2]).expect("a file")),
        ("no code", &|| fs::remove_file(&code).expect("a file")),
        ("no digest", &|| fs::remove_file(&digest).expect("a file")),
        ("an empty digest", &|| fs::write(&digest, "").expect("a file")),
        ("a digest that is no text", &|| fs::write(&digest, [0xff; 1000]).expect("a file")),
        ("what others can write to", &|| set_mode(&code, 0o666)),
        ("a link", &|| {
            let other = place.0.path().join("elsewhere");
            fs::rename(&code, &other).expect("a file");
            symlink(&other, &code).expect("a link");
        }),
        ("a directory", &|| {
            fs::remove_file(&code).expect("a file");
            fs::create_dir(&code).expect("a directory");
        }),
        ("what is no code, with the right digest", &|| {
            fs::write(&code, "hello").expect("a file");
            fs::write(&digest, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
                .expect("a file");
        }),
    ];
    for (what, spoil) in ways {
        spoil();
        assert_eq!(place.started(), COMPILED, "{what}");
        assert_eq!(place.started(), CACHED, "after {what}");
        assert_eq!(place.entry("code"), code);
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let place = Place::new();
    let refusal =
        |directory: &Path| format!("{:#}", CodeCache::open(directory).expect_err("it is not safe"));
    let cache = place.cache();
    fs::create_dir(&cache).expect("a directory");
    for (bad, shown) in [(0o777, "777"), (0o770, "770"), (0o702, "702"), (0o1777, "1777")] {
        set_mode(&cache, bad);
        let expected = format!("can be written to by others (mode {shown}), expected 700");
        assert!(refusal(&cache).ends_with(&expected), "{}", refusal(&cache));
    }
    set_mode(&cache, 0o755);
    CodeCache::open(&cache).expect("it is ours");

    let (link, above) = (place.0.path().join("link"), place.0.path().join("above"));
    symlink(&cache, &link).expect("a link");
    assert!(refusal(&link).ends_with("link` is a symbolic link"), "{}", refusal(&link));

    fs::create_dir(&above).expect("a directory");
    set_mode(&above, 0o777);
    let beneath = above.join("a/b");
    let expected = format!("could be replaced by others: they can write to `{}`", above.display());
    assert!(refusal(&beneath).ends_with(&expected), "{}", refusal(&beneath));
    // As in /tmp, where each can move only what is theirs.
    set_mode(&above, 0o1777);
    CodeCache::open(&beneath).expect("it is ours");
    assert_eq!(mode(&above.join("a")), 0o700);

    let file = place.0.path().join("guest.wasm");
    assert!(refusal(&file).contains("guest.wasm` can't be made: "), "{}", refusal(&file));
}

#[test]
fn what_was_used_least_recently_makes_room() {
    let place = Place::new();
    let number = |number: usize| predicate(&format!("(i32.const {number})"));
    place.write(&number(0));
    place.started();
    let length = fs::metadata(place.entry("code")).expect("a file").len();
    let small = |entries: u64| {
        let cache = CodeCache::open(&place.cache()).expect("it is ours");
        Compiler::in_process().with_cache(cache.with_max_size(ConfigSize(entries * (length + 100))))
    };
    let load = |number_of: usize| {
        place.write(&number(number_of));
        let compiler = small(2);
        place.load(&compiler).expect("it is good");
        (compiler.compiled(), compiler.cached())
    };
    // None of them may look as new as another.
    let age = || {
        for path in place.entries("code").into_iter().chain(place.entries("sha256")) {
            let file = File::open(path).expect("a file");
            let modified =
                file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            file.set_modified(modified - Duration::from_secs(60)).expect("it is ours");
        }
    };
    age();
    assert_eq!(load(1), COMPILED);
    age();
    assert_eq!(load(0), CACHED);
    age();
    assert_eq!(load(2), COMPILED);
    assert_eq!((place.entries("code").len(), place.entries("sha256").len()), (2, 2));
    age();
    assert_eq!(load(0), CACHED);
    assert_eq!(load(1), COMPILED, "it was the one to go");

    place.write(&number(3));
    let none = small(0);
    place.load(&none).expect("it is good");
    assert_eq!(place.entries("code").len(), 2, "what is larger than all of the room is not stored");
}

#[test]
fn what_a_crash_left_is_removed_in_time() {
    let place = Place::new();
    place.started();
    let of =
        |digit: &str| place.cache().join(format!("{}.code.0123456789abcdef.tmp", digit.repeat(64)));
    let (old, new, others) = (of("a"), of("b"), place.cache().join("thesis.tmp"));
    for file in [&old, &new, &others] {
        fs::write(file, "half").expect("a file");
    }
    let hours_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for file in [&old, &others] {
        File::options()
            .write(true)
            .open(file)
            .and_then(|file| file.set_modified(hours_ago))
            .expect("it is ours");
    }
    assert_eq!(place.started(), CACHED);
    assert_eq!(place.entries("tmp"), [new, others], "what is not ours stays");
}

#[test]
fn many_may_share_it() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..8)
                    .map(|_| place.started())
                    .for_each(|(compiled, cached)| assert_eq!(compiled + cached, 1))
            });
        }
    });
    assert_eq!(place.started(), CACHED);
    assert_eq!((place.entries("code").len(), place.entries("tmp").len()), (1, 0));
}

// ===== the child =====

/// What comes of a compiler that is this shell script.
fn script(script: &str) -> String {
    let place = Place::new();
    let compiler = Compiler::child("/bin/sh".into(), vec!["-c".into(), script.into()]);
    place
        .load(&compiler)
        .expect_err("it makes no code")
        .replace(&place.0.path().display().to_string(), "")
}

#[test]
fn a_child_that_ends_otherwise_than_it_should_is_a_reason() {
    for (ends, expected) in [
        ("cat > /dev/null; echo so and so >&2; exit 3", "is not a valid component: so and so"),
        ("exit 0", "the compiler made no code: "),
        ("echo what >&2; exit 1", "the compiler crashed: exit status: 1: what"),
        ("kill -SEGV $$", "the compiler crashed: signal: 11 (SIGSEGV)"),
        ("kill -XCPU $$", "takes longer than 60s to compile"),
        (
            "echo memory allocation of 10 bytes failed >&2; kill -ABRT $$",
            "takes more than 1GiB of memory to compile",
        ),
        ("exit 4", "takes more than 1GiB of memory to compile"),
        ("kill -ABRT $$", "the compiler crashed: signal: 6 (SIGABRT)"),
        // More than a pipe holds, of which nobody wants to read the most.
        ("head -c 1000000 /dev/zero >&2; exit 3", "is not a valid component: \0\0"),
    ] {
        let said = script(ends);
        let expected = format!("component `{NAME}` (/guest.wasm): {expected}");
        assert!(said.starts_with(&expected), "{ends}: expected {expected}\nfound    {said}");
        assert!(said.len() < 5000);
    }
    let bare = script("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^MIMALLOC >&2; exit 3");
    assert!(bare.ends_with("is not a valid component: "), "nothing of the environment: {bare}");
}

#[test]
fn a_child_without_seccomp_makes_code_and_says_why() {
    let place = Place::new();
    place.started();
    let code = place.entry("code");
    let script = format!("cat > /dev/null; echo not confined: so >&2; cat {}", code.display());
    let compiler = Compiler::child("/bin/sh".into(), vec!["-c".into(), script.into()]);
    let recorder = Recorder::default();
    let configs = BTreeMap::from([(NAME.to_owned(), ComponentConfig::new("guest.wasm"))]);
    Components::load(
        configs,
        place.0.path(),
        compiler,
        ComponentMemory::default(),
        recorder.observers(),
    )
    .expect("it is good");
    let unconfined = ComponentEvent::Unconfined { name: NAME.into(), reason: "so".into() };
    assert_eq!(recorder.kinds()[0], unconfined.into());
}

#[test]
fn a_program_that_is_not_there_is_said_so() {
    let place = Place::new();
    let said = place
        .load(&Compiler::child("/nowhere/fusebox".into(), Vec::new()))
        .expect_err("there is none");
    assert!(said.contains("the compiler can't be started: No such file or directory"), "{said}");
}

#[test]
fn no_child_is_needed_for_what_is_in_the_cache() {
    let place = Place::new();
    place.started();
    let nobody = Compiler::child("/nowhere/fusebox".into(), Vec::new());
    place
        .load(&nobody.with_cache(CodeCache::open(&place.cache()).expect("it is ours")))
        .expect("it is there");
}

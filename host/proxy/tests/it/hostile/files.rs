//! Files that are no component, or not one of ours: refused at the start, and left alone as a swap.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use fusebox_dev::{Ran, get, handle_if, responds, wat_component};
use serde_json::json;

use super::guest::Guest;
use super::{MEMORY, Neighbours, config, good, origin, proxy};
use crate::cli::bad_components;
use crate::support::{Proxy, fusebox};

/// What is in the place of a component.
enum Place {
    File(Vec<u8>),
    /// Of so many bytes, none of which is there.
    Sparse(u64),
    Directory,
    Pipe,
}

impl Place {
    /// Takes the place of whatever is at `path`.
    fn put(&self, path: &Path) {
        let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        removed
            .or_else(
                |error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) },
            )
            .expect("a path");
        let aside = path.with_extension("new");
        match self {
            Self::File(bytes) => fs::write(&aside, bytes).expect("a file"),
            Self::Sparse(size) => {
                fs::File::create(&aside).and_then(|file| file.set_len(*size)).expect("a file")
            }
            Self::Directory => fs::create_dir(&aside).expect("a directory"),
            Self::Pipe => {
                assert!(Command::new("mkfifo").arg(&aside).status().expect("`mkfifo`").success())
            }
        }
        fs::rename(&aside, path).expect("a path");
    }
}

fn wat(text: &str) -> Place {
    Place::File(wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// A component that would be good, but for these fields of its module.
fn but_for(fields: &str) -> Place {
    Place::File(wat_component(&format!(
        "{} {} {fields}",
        handle_if("(i32.const 1)"),
        responds(200, "new")
    )))
}

/// One that starts with this.
fn starting(body: &str) -> Place {
    Place::File(Guest::doing("").starting(body).component())
}

/// A component in a component in a component… What it takes to compile them grows with the square
/// of their number: 50,000 (600 KB) would take more than 20 GB.
fn nested_components(depth: usize) -> Place {
    Place::File((0..depth).fold(b"\0asm\x0d\0\x01\0".to_vec(), |inner, _| {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut length = inner.len();
        while length > 0x7f {
            outer.push(u8::try_from(length & 0x7f | 0x80).expect("a byte"));
            length >>= 7;
        }
        outer.push(u8::try_from(length).expect("a byte"));
        [outer, inner].concat()
    }))
}

/// What is refused, and why.
fn refused() -> Vec<(Place, String)> {
    let predicate = r#"(component
        (core module $guest (func (export "f") (param i32 i32) (result i32) (i32.const 1)))
        (core instance $guest (instantiate $guest))
        (func $f (param "outcome" u64) (result bool) (canon lift (core func $guest "g")))
        (instance $predicate (export "handle-if" (func $f)))
        (export "NAME" (instance $predicate)))"#
        .replace(r#""g""#, r#""f""#)
        .replace("u64", "(tuple u32 u32)");
    let named = |name: &str| wat(&predicate.replace("NAME", name));
    let missing =
        "missing export `fusebox:policy/predicate@0.1.0` or `fusebox:policy/fallback@0.1.0`";
    let importing = |import: &str| wat(&format!(r#"(component (import "{import}" (instance)))"#));
    let many = |count: usize, field: &str| but_for(&field.repeat(count));
    let nested: String =
        (1..1000).map(|depth| format!("(type $t{depth} (list $t{}))", depth - 1)).collect();
    let own = [
        (
            Place::File(
                fs::read(env!("CARGO_BIN_EXE_fusebox")).expect("the program")[..100_000].to_vec(),
            ),
            "is compiled code, expected a component",
        ),
        (
            Place::File(b"#!/bin/sh\necho hello\n".to_vec()),
            "is not WebAssembly, expected a component",
        ),
        (Place::File(vec![0; 1000]), "is not WebAssembly, expected a component"),
        (Place::File(b"\n  (module)".to_vec()), "is WebAssembly text, expected a binary component"),
        (Place::File(b"\0asm\x0d\0\x01\0garbage".to_vec()), "is not a valid component: "),
        (Place::File([&good()[..], b"and more"].concat()), "is not a valid component: "),
        (Place::Sparse(200 << 20), "larger than 64 MiB"),
        (Place::Directory, "is not a regular file"),
        (Place::Pipe, "is not a regular file"),
        // Other worlds.
        (named("acme:policy/predicate@0.1.0"), missing),
        (named("fusebox:policy/predicate@0.2.0"), missing),
        (named("fusebox:policy/predicate@1.0.0"), missing),
        (
            named("fusebox:policy/predicate@0.1.0"),
            "can't be instantiated: export `fusebox:policy/predicate@0.1.0` has a wrong type",
        ),
        (
            importing("fusebox:policy/attempt@0.2.0"),
            "import `fusebox:policy/attempt@0.2.0`: expected `fusebox:policy` in",
        ),
        (
            importing("fusebox:policy/secrets@0.1.0"),
            "import `fusebox:policy/secrets@0.1.0` is not known here",
        ),
        (importing("acme:store/kv@1.0.0"), "import `acme:store/kv@1.0.0` is not known here"),
        (
            importing("wasi:http/types@0.2.3"),
            "import `wasi:http/types@0.2.3` is not granted: policies have no network",
        ),
        (
            importing("wasi:clocks/monotonic-clock@0.3.0"),
            "import `wasi:clocks/monotonic-clock@0.3.0`: expected WASI 0.2",
        ),
        (
            nested_components(500),
            "is not a valid component: components are nested more than 32 deep",
        ),
        // Starts that fail.
        (
            starting("(drop (call $number))"),
            "can't be instantiated: asked about an attempt outside of a call",
        ),
        (
            starting("(call $block (call $after (i64.const 1000000000)))"),
            "can't be instantiated: waited, for time",
        ),
        (
            starting("(call $exit (i32.const 0))"),
            "can't be instantiated: Exited with i32 exit status 0",
        ),
        (
            starting("(loop $more (call $own (i32.const 1)) (drop) (br $more))"),
            "can't be instantiated: cannot allocate",
        ),
        // More than fits.
        (but_for("(memory 65536)"), "can't be instantiated: asked for more than 64MiB of memory"),
        (but_for("(table 10000000 funcref)"), "can't be instantiated: "),
        (many(200, "(table 1 funcref)"), ""),
        (many(20, "(memory 1)"), ""),
        (
            wat(&format!(
                "(component (core module $m) {})",
                "(core instance (instantiate $m))".repeat(300)
            )),
            "",
        ),
        (wat(&format!("(component (type $t0 (list u8)) {nested})")), ""),
    ];
    let own = own.into_iter().map(|(place, reason)| (place, reason.to_owned()));
    bad_components()
        .into_iter()
        .map(|(bytes, reason)| (Place::File(bytes), reason.to_owned()))
        .chain(own)
        .collect()
}

#[test]
fn nothing_starts_with_a_file_that_is_no_component_of_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!("listen = '127.0.0.1:0'\n{}", config("").replace("ORIGIN", "http://b"));
    fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
    fs::write(directory.path().join("good.wasm"), good()).expect("a file");
    for (place, reason) in refused() {
        place.put(&directory.path().join("c.wasm"));
        let Ran { code, error, .. } = fusebox(directory.path(), &["run"]);
        let expected =
            format!("fusebox.toml:4: components.c.file: component `c` (c.wasm): {reason}");
        assert!(error.starts_with(&expected), "expected {expected}\nfound    {error}");
        assert!(error.len() < 2000, "{error}");
        assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
    }
}

#[test]
fn a_file_that_is_no_component_of_ours_replaces_none() {
    let origin = origin();
    let old = wat_component(&format!("{} {}", handle_if("(i32.const 1)"), responds(200, "old")));
    let proxy = proxy(&origin, &old, "");
    let waited = Neighbours::of(&proxy, || {
        for (rejected, (place, reason)) in refused().into_iter().enumerate() {
            place.put(&proxy.path("c.wasm"));
            let line = proxy.line_after(rejected, "Component rejected");
            let said = line["reason"].as_str().expect("a reason");
            assert!(
                said.contains(&format!("c.wasm: {reason}")),
                "expected {reason}\nfound    {said}"
            );
            assert_eq!((&line["component"], &line["level"]), (&json!("c"), &json!("ERROR")));
            goes_on(&proxy, "old");
            assert_eq!(proxy.state()["components"]["c"]["generation"], 1);
        }
    });
    waited.was_on_time("");
    assert!(proxy.peak_memory() < MEMORY, "{} MiB", proxy.peak_memory() >> 20);
    assert_eq!(proxy.lines("Component replaced"), [json!(null); 0]);
    // And a good one is taken after all that.
    but_for("").put(&proxy.path("c.wasm"));
    assert_eq!(proxy.line("Component replaced")["generation"], 2);
    goes_on(&proxy, "new");
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let origin = origin();
    let proxy = proxy(&origin, &Guest::doing("").component(), "");
    let before = proxy.peak_memory();
    Place::Sparse(200 << 20).put(&proxy.path("c.wasm"));
    let line = proxy.line("Component rejected");
    assert!(line["reason"].as_str().is_some_and(|said| said.ends_with("larger than 64 MiB")));
    let taken = proxy.peak_memory() - before;
    assert!(taken < 16 << 20, "{} MiB", taken >> 20);
}

#[track_caller]
fn goes_on(proxy: &Proxy, text: &str) {
    assert_eq!(proxy.ask(get("/predicate", "after")).status(), 200);
    let response = proxy.ask(get("/fallback", "after"));
    assert_eq!((response.status(), response.text()), (200, text));
}

#[test]
fn a_component_of_many_small_functions_is_compiled_beside_the_traffic() {
    let origin = origin();
    let proxy = proxy(&origin, &Guest::doing("").component(), "");
    let waited = Neighbours::of(&proxy, || {
        // As many as compile in time on a busy machine, where the compiler yields to the traffic.
        but_for(&"(func)".repeat(2_000)).put(&proxy.path("c.wasm"));
        assert_eq!(proxy.line("Component replaced")["generation"], 2);
    });
    goes_on(&proxy, "new");
    waited.was_on_time("");
    // The compiler holds all of them until the last is done, some 6 KiB for each.
    assert!(proxy.peak_memory() < MEMORY, "{} MiB", proxy.peak_memory() >> 20);
}

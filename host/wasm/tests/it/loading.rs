//! What is refused at load, and in which words.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fusebox_dev::{encode, handle_if, respond};
use fusebox_resilience::{ComponentEvent, EventKind, Observers};
use fusebox_wasm::author::{World, inspect};
use fusebox_wasm::{Compiler, ComponentConfig, ComponentMemory, Components, WIT};
use tempfile::TempDir;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::guest::{Exports, guest, predicate, text};
use crate::support::{NAME, load, load_with, refusal, try_load_with};

const ALWAYS: &str = "(i32.const 1)";

#[test]
fn an_acceptable_component_is_loaded_and_said_so() {
    let tested = load(&predicate(ALWAYS));
    let [EventKind::Component(ComponentEvent::Loaded { component, replaced: None })] =
        &tested.recorder.kinds()[..]
    else {
        panic!("{:?}", tested.recorder.kinds())
    };
    assert_eq!((&*component.name, component.generation, component.digest.len()), (NAME, 1, 64));
    assert_eq!(tested.components.files().collect::<Vec<_>>(), [(NAME, &*tested.file())]);
}

#[test]
fn an_error_names_the_component_and_its_file() {
    let refusal = refusal(b"(component)");
    assert!(refusal.starts_with(&format!("component `{NAME}` (/")), "{refusal}");
    assert!(
        refusal.ends_with("guest.wasm): is WebAssembly text, expected a binary component"),
        "{refusal}"
    );
}

#[test]
fn what_is_no_component_is_refused() {
    let whole = predicate(ALWAYS);
    for (bytes, expected) in [
        (&b""[..], "is not WebAssembly"),
        (b"MZ\x90\0", "is not WebAssembly"),
        (b"\x7fELF\x02\x01\x01", "is compiled code, expected a component"),
        (b"\0asm", "is cut off after 4 bytes"),
        (b"\0asm\x0f\0\x01\0", "is WebAssembly of an unknown version"),
        (
            &encode("(module)"),
            "is not a valid component: a core module that does not say which world it is for: \
             build it with wit-bindgen",
        ),
        (&whole[..whole.len() / 2], "is not a valid component"),
        (&whole[..whole.len() - 1], "is not a valid component"),
    ] {
        let refusal = refusal(bytes);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

/// A core module as compilers make it: `handle-if` has this body.
fn core_module(imports: &str, body: &str) -> Vec<u8> {
    encode(&format!(
        r#"(module {imports} (memory (export "memory") 4) (global $next (mut i32) (i32.const 1024))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
              (local $start i32)
              (local.set $start
                (i32.and (i32.add (global.get $next) (i32.const 65535)) (i32.const -65536)))
              (global.set $next (i32.add (local.get $start) (local.get 3))) (local.get $start))
            (func (export "fusebox:policy/predicate@0.1.0#handle-if") (param i32 i32)
              (result i32) {body}))"#
    ))
}

#[test]
fn a_core_module_that_says_its_world_becomes_a_component() {
    let plain = core_module("", "(i32.eq (local.get 1) (i32.const 503))");
    let component = World::PredicatePolicy.componentize(&plain).expect("it exports what it should");
    assert_eq!(component[4..8], [0x0d, 0, 1, 0]);
    let tested = load(&with_world(plain, "predicate-policy"));
    assert_eq!([503, 200].map(|status| tested.handles(status)), [true, false]);
}

#[test]
fn the_first_preview_of_wasi_is_translated() {
    let import = r#"(import "wasi_snapshot_preview1" "fd_write"
      (func $write (param i32 i32 i32 i32) (result i32)))
        (data (i32.const 16) "\20\00\00\00\03\00\00\00") (data (i32.const 32) "hi\n")"#;
    let says = "(drop (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 24)))
                 (i32.const 1)";
    let tested = load(&with_world(core_module(import, says), "predicate-policy"));
    assert!(tested.handles(200));
    assert_eq!(tested.printed(), ["hi"]);
}

#[test]
fn a_core_module_that_lacks_what_its_world_wants_is_refused() {
    let refusal = refusal(&with_world(core_module("", "(i32.const 1)"), "policy"));
    assert!(refusal.contains("no component can be made of the core module: "), "{refusal}");
    assert!(refusal.contains("fusebox:policy/fallback@0.1.0"), "{refusal}");
}

/// The section that wit-bindgen makes.
fn with_world(mut module: Vec<u8>, world: &str) -> Vec<u8> {
    let mut contract = Resolve::default();
    let package = contract.push_str("policy.wit", WIT).expect("valid text");
    let world = contract.select_world(&[package], Some(world)).expect("there is one");
    embed_component_metadata(&mut module, &contract, world, StringEncoding::UTF8).expect("a world");
    module
}

#[test]
fn a_component_for_another_world_is_refused() {
    let refusal = refusal(&encode("(component)"));
    assert!(
        refusal.contains(
            "missing export `fusebox:policy/predicate@0.1.0` or `fusebox:policy/fallback@0.1.0`"
        ),
        "{refusal}"
    );
}

#[test]
fn an_export_of_a_wrong_type_is_refused() {
    let wrong = r#"(component
        (core module $guest (func (export "handle-if") (result i32) (i32.const 1)))
        (core instance $guest (instantiate $guest))
        (func $handle-if (result bool) (canon lift (core func $guest "handle-if")))
        (instance $predicate (export "NAME" (func $handle-if)))
        (export "fusebox:policy/predicate@0.1.0" (instance $predicate)))"#;
    let type_refusal = refusal(&encode(&wrong.replace("NAME", "handle-if")));
    assert!(
        type_refusal.contains("export `fusebox:policy/predicate@0.1.0` has a wrong type"),
        "{type_refusal}"
    );
    let name_refusal = refusal(&encode(&wrong.replace("NAME", "handles")));
    assert!(
        name_refusal
            .contains("export `fusebox:policy/predicate@0.1.0` is not that of the contract"),
        "{name_refusal}"
    );
}

#[test]
fn imports_that_are_not_granted_are_refused_all_at_once() {
    let component = text(
        Exports::Predicate,
        r#"(import "wasi:http/outgoing-handler@0.2.3" (instance))
           (import "wasi:clocks/monotonic-clock@0.3.0" (instance))
           (import "acme:store/kv" (instance))"#,
        "",
        &handle_if(ALWAYS),
    );
    let refusal = refusal(&encode(&component));
    for expected in [
        "import `wasi:http/outgoing-handler@0.2.3` is not granted",
        "import `wasi:clocks/monotonic-clock@0.3.0`: expected WASI 0.2",
        "import `acme:store/kv` is not known here",
    ] {
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn an_import_of_a_wrong_type_is_refused() {
    let component = text(
        Exports::Predicate,
        r#"(import "wasi:random/random@0.2.3"
          (instance (export "get-random-u64" (func (result string)))))"#,
        "",
        &handle_if(ALWAYS),
    );
    let refusal = refusal(&encode(&component));
    assert!(
        refusal.contains("an import has a wrong type") && refusal.contains("get-random-u64"),
        "{refusal}"
    );
}

#[test]
fn a_guest_that_fails_to_start_is_refused() {
    let starts = |body: &str| {
        guest(
            Exports::Predicate,
            &format!("(func $start {body}) (start $start) {}", handle_if(ALWAYS)),
        )
    };
    let trap = refusal(&starts("unreachable"));
    assert!(
        trap.contains("can't be instantiated: wasm `unreachable` instruction executed"),
        "{trap}"
    );
    let endless = try_load_with(&starts("(loop $for-ever (br $for-ever))"), |config| {
        config.timeout = fusebox_resilience::config::ConfigDuration::from_millis(10);
    });
    let endless = endless.err().expect("it is refused");
    assert!(endless.contains("can't be instantiated: took longer than 1s"), "{endless}");
    let large =
        refusal(&guest(Exports::Predicate, &format!("(memory 2000) {}", handle_if(ALWAYS))));
    assert!(large.contains("asked for more than 64"), "{large}");
}

#[test]
fn a_pinned_digest_is_kept_to() {
    let bytes = predicate(ALWAYS);
    let digest = load(&bytes).loaded()[0].digest.to_string();
    load_with(&bytes, |config| config.sha256 = Some(digest.to_uppercase()));
    let refusal = try_load_with(&bytes, |config| config.sha256 = Some("00".repeat(32)))
        .err()
        .expect("it is refused");
    assert!(
        refusal.contains(&format!("expected sha256 `{}`, found `{digest}`", "00".repeat(32))),
        "{refusal}"
    );
}

#[test]
fn everything_that_fails_to_load_is_said_at_once() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("good.wasm"), predicate(ALWAYS)).expect("a file");
    let configs = ["good.wasm", "absent.wasm", "lost.wasm"]
        .map(|file| (file.replace(".wasm", ""), ComponentConfig::new(file)));
    let failures = Components::load(
        BTreeMap::from(configs),
        directory.path(),
        Compiler::in_process(),
        ComponentMemory::default(),
        Observers::default(),
    )
    .err();
    let failures = failures.expect("two are not there");
    assert_eq!(failures.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["absent", "lost"]);
    assert!(format!("{:#}", failures[0].1).contains("No such file"), "{:#}", failures[0].1);
}

#[test]
fn a_name_or_an_export_that_is_not_there_is_said_so() {
    let tested = load(&predicate(ALWAYS));
    let absent = tested.components.predicate("absent").expect_err("there is none");
    assert_eq!(absent, format!("no component `absent`; there are `{NAME}`"));
    let none = tested.components.responder(NAME).expect_err("it exports none");
    assert!(
        none.ends_with("guest.wasm): missing export `fusebox:policy/fallback@0.1.0`"),
        "{none}"
    );
    let empty = Components::load(
        BTreeMap::new(),
        Path::new(""),
        Compiler::in_process(),
        ComponentMemory::default(),
        Observers::default(),
    )
    .expect("nothing to load");
    assert_eq!(
        empty.predicate("any").expect_err("there is none"),
        "no component `any`; there are none"
    );
}

#[test]
fn an_inspection_says_what_a_load_would() {
    let tested = load(&guest(Exports::Both, &(handle_if(ALWAYS) + &respond("(i32.const 2048)"))));
    let good = inspect(&tested.file(), Compiler::in_process()).expect("it can be read");
    assert!(good.is_acceptable());
    assert_eq!(good.world(), Some("fusebox:policy/policy@0.1.0"));
    assert_eq!(good.serves(), ["handle_if", "abort_if", "cancel_if", "ignore_if", "respond"]);
    assert_eq!(good.sha256, *tested.loaded()[0].digest);
    assert!(good.to_string().ends_with("\naccepted"), "{good}");
    tested.overwrite(&encode(r#"(component (import "wasi:http/types@0.2.0" (instance)))"#));
    let bad = inspect(&tested.file(), Compiler::in_process()).expect("it can be read");
    assert_eq!((bad.is_acceptable(), bad.world(), bad.serves().len()), (false, None, 0));
    assert!(bad.to_string().contains("wasi:http/types@0.2.0  (refused)"), "{bad}");
    assert!(inspect(&tested.file().with_extension("absent"), Compiler::in_process()).is_err());
}

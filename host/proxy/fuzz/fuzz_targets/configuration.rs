//! Any text as a configuration: it is taken, or each problem is told with its line; nothing panics.
//!
//! How to run it: `make fuzz`, or in `host/proxy` `RUSTC_BOOTSTRAP=1 cargo fuzz run --dev
//! --sanitizer none configuration fuzz/corpus/configuration ../../examples/configs
//! -- -dict=fuzz/configuration.dict`.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use fusebox::proxy::load;
use fusebox_resilience::Observers;
use fusebox_wasm::Compiler;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a directory for the file"));

fuzz_target!(|bytes: &[u8]| {
    let file = DIRECTORY.path().join("fusebox.toml");
    fs::write(&file, bytes).expect("room for a file");
    let read = load(&file, Compiler::in_process(), |_| Observers::default());
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    for error in read.err().unwrap_or_default() {
        let is_placed = error.line.is_some_and(|line| line <= lines);
        assert!(is_placed || error.message.starts_with("missing"), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
});

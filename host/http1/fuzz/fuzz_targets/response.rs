//! Any bytes as a response: nothing panics, pieces make no difference, and what we take hyper takes
//! for the same.
//!
//! `cargo install cargo-fuzz`, then in `host/http1` `cargo +nightly fuzz run response --
//! -dict=fuzz/http.dict` (with a stable toolchain: `RUSTC_BOOTSTRAP=1 cargo fuzz run …`).
//! `-max_total_time=60` ends it after a minute.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/script.rs"]
mod script;
#[path = "../../tests/it/seen.rs"]
mod seen;

use seen::{hypers, ours};

fuzz_target!(|response: &[u8]| {
    let bytes: Vec<&[u8]> = response.chunks(1).collect();
    for to_head in [false, true] {
        let seen = ours(&[response], to_head);
        assert_eq!(seen, ours(&bytes, to_head), "byte by byte");
        if seen.is_whole() {
            assert_eq!(seen, hypers(&[response], to_head), "hyper");
        }
    }
});

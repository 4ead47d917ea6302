//! Any bytes as what a client sends: nothing panics, pieces make no difference, what we take hyper
//! takes for the same, and what goes on of it is one request each, read the same again.
//!
//! See `response.rs` for how to run it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/script.rs"]
mod script;
#[path = "../../tests/it/served.rs"]
mod served;

use served::{hypers, is_one_and_the_same, is_taken_alike, ours};

fuzz_target!(|sent: &[u8]| {
    let whole = ours(&[sent]);
    let apart = ours(&sent.chunks(1).collect::<Vec<_>>());
    assert!(apart.is_same_in_pieces(&whole), "{whole}, but {apart} byte by byte");
    let (first, second) = sent.split_at(sent.len() / 2);
    let apart = ours(&[first, second]);
    assert!(apart.is_same_in_pieces(&whole), "{whole}, but {apart} in two");
    for (ours, theirs) in whole.requests.iter().zip(hypers(&[sent]).requests) {
        assert!(is_taken_alike(ours, &theirs), "{ours}, but to hyper {theirs}");
    }
    assert!(whole.requests.iter().all(is_one_and_the_same), "{whole}");
});

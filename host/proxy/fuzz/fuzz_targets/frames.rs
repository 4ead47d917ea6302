//! Any bytes behind the preface of HTTP/2, at once and in two: nothing panics, and what is answered is
//! frames, on streams that the client has begun.
//!
//! How to run it: as `configuration.rs`, with `frames fuzz/corpus/frames fuzz/seeds/frames`.

#![no_main]

use std::collections::BTreeSet;
use std::fs;

use fusebox::proxy::load;
use fusebox::server::fuzzing::FrameServer;
use fusebox_resilience::Observers;
use fusebox_wasm::Compiler;
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bodies are read before a place is taken, and then nobody is there: so all is answered.
const CONFIG: &str = "listen = '127.0.0.1:0'\n[policies.f]\nkind = 'fallback'\n\
    respond = { body = 'instead' }\n[policies.b]\nkind = 'bulkhead'\nmax_concurrency = 10\n\
    [[routes]]\nupstream = 'http://127.0.0.1:1'\npolicies = ['f', 'b']\nupgrades = ['websocket']\n\
    [[routes]]\npath = '/b.B'\nupstream = 'http://127.0.0.1:1'\ngrpc = true\n";

thread_local! {
    static SERVER: FrameServer = server();
}

fn server() -> FrameServer {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fusebox.toml");
    fs::write(&file, CONFIG).expect("room for a file");
    let read = load(&file, Compiler::in_process(), |_| Observers::default());
    let (file, compiled) = read.expect("it is valid");
    FrameServer::new(compiled.running.routes, file.config.listener, Observers::default())
        .expect("a descriptor for each of its parts")
}

/// The streams of whole frames, each with the kind of its frame, and what is left over.
fn frames(mut bytes: &[u8]) -> (Vec<(u8, u32)>, usize) {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(rest) = rest.get(length..) else { break };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        frames.push((head[3], stream));
        bytes = rest;
    }
    (frames, bytes.len())
}

/// Frames that answer something: HEADERS and DATA.
fn answered(got: &[u8], begun: &BTreeSet<u32>) -> BTreeSet<u32> {
    let (frames, rest) = frames(got);
    assert_eq!(rest, 0, "a frame is not whole: {got:?}");
    let answers = frames.iter().filter(|(kind, _)| *kind <= 1).map(|(_, stream)| *stream);
    let answers: BTreeSet<u32> = answers.collect();
    assert!(answers.is_subset(begun), "nobody asked: {answers:?} {begun:?}");
    answers
}

fuzz_target!(|bytes: &[u8]| {
    let (sent, _) = frames(bytes);
    let begun = sent.iter().filter(|(kind, _)| *kind == 1).map(|(_, stream)| *stream).collect();
    SERVER.with(|server| {
        answered(&server.serve(&[PREFACE, bytes]), &begun);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        answered(&server.serve(&[PREFACE, first, second]), &begun);
    });
});

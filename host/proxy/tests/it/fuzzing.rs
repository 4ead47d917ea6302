//! Mutations of what is known to be odd: frames and bytes from both sides, and configurations. Each
//! test goes through a hundred or more by itself; with `FUZZ_SECONDS` it goes on for so long
//! (`make fuzz`). A mutation is known by its seed, which a failure tells.

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use fusebox::proxy::load;
use fusebox_dev::{
    HeaderDecoder, Message, Origin, RawFrame, Wire, flag, get, header_block, kind, ok,
};
use fusebox_resilience::Observers;
use fusebox_wasm::Compiler;
use tokio::time::Instant;

use crate::support::Proxy;

/// Seeds: so many, and then until the time is over.
pub(crate) fn seeds(least: u64) -> impl Iterator<Item = u64> {
    let seconds = env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    (0..).take_while(move |seed| *seed < least || Instant::now() < end)
}

const INTERESTING: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n\r\n",
    b":",
    b" ",
    b"\t",
    b"0\r\n\r\n",
    b"chunked",
    b",",
    b"\xff",
    b"\x7f",
    b"9999999999",
    b"-1",
    b"GET /next HTTP/1.1\r\nhost: b\r\n\r\n",
];

/// Changes a few places of it.
pub(crate) fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=bytes.len());
        let length = random.usize(0..16).min(bytes.len() - at);
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => bytes.truncate(at.max(1)),
            _ => {
                let new = INTERESTING[random.usize(0..INTERESTING.len())];
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

/// Changes a few frames, their order, or what they say of themselves.
pub(crate) fn mutate_frames(random: &mut Rng, frames: &mut Vec<RawFrame>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..frames.len());
        match random.u8(0..9) {
            0 => frames.insert(at, frames[random.usize(0..frames.len())].clone()),
            1 if frames.len() > 1 => drop(frames.remove(at)),
            2 => frames[at].flags ^= 1 << random.u8(0..6),
            3 => frames[at].stream = random.u32(0..8),
            4 => frames[at].kind = random.u8(0..11),
            5 => frames.insert(at, RawFrame::window_update(random.u32(0..4), random.u32(..))),
            6 => frames.insert(at, RawFrame::reset(random.u32(0..4), random.u32(0..15))),
            7 => frames.insert(at, RawFrame::settings(&[(random.u16(0..8), random.u32(..))])),
            _ => mutate(random, &mut frames[at].payload),
        }
    }
}

/// The program has no fault of its own: no thread was lost, and nothing is said of one.
#[track_caller]
pub(crate) fn is_well(proxy: &Proxy, seed: u64) {
    let faults = proxy.wait("its log", |lines| {
        let of_its_own = |line: &&serde_json::Value| {
            let text = line.to_string();
            text.contains("panicked")
                || text.contains("internal error")
                || text.contains("stalled:")
        };
        Some(lines.iter().filter(of_its_own).cloned().collect::<Vec<_>>())
    });
    assert!(faults.is_empty(), "up to seed {seed}: {faults:#?}");
}

// ===== responses =====

const RESPONSES: [&str; 8] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nwhole\r\n0\r\nx-sum: 1\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 503 Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nconnection: close, x-a\r\nx-a: 1\r\n\r\nwhole",
    "HTTP/1.0 200 OK\r\nkeep-alive: timeout=5\r\nconnection: keep-alive\r\n\
     content-length: 5\r\n\r\nwhole",
];

const SHORT: &str = "workers = 1\n[[routes]]\nupstream = { url = 'ORIGIN', protocol = 'PROTOCOL', \
    response_timeout = '60ms', body_timeout = '60ms', connect_timeout = '5s' }\n";

/// What a client sees, as far as it is HTTP.
fn any_answer(proxy: &Proxy, request: &str) -> Message {
    let mut wire = proxy.connect();
    wire.send(request);
    loop {
        let answer = wire.any_response();
        if answer.status() >= 200 {
            return answer;
        }
    }
}

/// Who asks next gets the own answer, or a failure: what is broken of a connection may show only
/// when it is used, and a machine may be busy.
#[track_caller]
fn next_is_well(proxy: &Proxy, seed: u64) {
    let path = format!("/well/{seed}");
    let is_own = (0..10).any(|_| {
        let answer = any_answer(proxy, &get(&path, &format!("well-{seed}")));
        let is_own = answer.status() == 200 && answer.body == path.as_bytes();
        let is_failure = answer.status() >= 500 || answer.broken.is_some();
        assert!(is_own || is_failure, "after seed {seed}: {answer:?}");
        is_own
    });
    assert!(is_own, "after seed {seed}: only failures");
    is_well(proxy, seed);
}

/// The seed that a request is about.
fn seed_of(path: &str) -> Option<u64> {
    path.strip_prefix("/odd/").and_then(|seed| seed.parse().ok())
}

/// Whatever an upstream sends, the client gets a response, and the next client, on whatever
/// connection, gets its own.
#[test]
fn no_response_becomes_a_part_of_another() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let answer = match seed_of(seen.request.target()) {
                Some(seed) => {
                    let mut random = Rng::with_seed(seed);
                    let mut bytes = RESPONSES[random.usize(0..RESPONSES.len())].as_bytes().to_vec();
                    mutate(&mut random, &mut bytes);
                    bytes
                }
                None => ok(seen.request.target()).into_bytes(),
            };
            if connection.wire.try_send(answer).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::before(&origin, &SHORT.replace("PROTOCOL", "http1"));
    for seed in seeds(100) {
        any_answer(&proxy, &get(&format!("/odd/{seed}"), &format!("odd-{seed}")));
        next_is_well(&proxy, seed);
    }
}

// ===== frames of upstreams =====

fn responses_in_frames() -> Vec<Vec<RawFrame>> {
    let head = |fields: &[(&str, &str)], is_last: bool| RawFrame::headers(1, fields, is_last);
    let status = (":status", "200");
    let block = header_block(&[status, ("x-a", "1")]);
    let (first, rest) = block.split_at(3);
    vec![
        vec![head(&[status], true)],
        vec![head(&[status, ("content-length", "5")], false), RawFrame::data(1, "whole", true)],
        vec![
            head(&[(":status", "103"), ("link", "</a>")], false),
            head(&[status], false),
            RawFrame::data(1, "whole", false),
            head(&[("x-sum", "1")], true),
        ],
        vec![
            RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, first),
            RawFrame::new(kind::CONTINUATION, flag::END_HEADERS, 1, rest),
        ],
        vec![RawFrame::go_away(1, 0), head(&[status], true)],
        vec![head(&[status], false), RawFrame::reset(1, 8)],
        vec![RawFrame::ping([1; 8]), RawFrame::settings(&[(4, 1)]), head(&[status], true)],
    ]
}

/// Answers `/odd/N` by the mutation of that seed, and all others by their path. `None`: the
/// connection has ended.
fn answers(wire: &mut Wire, decoder: &mut HeaderDecoder) -> Option<()> {
    loop {
        let frame = wire.frame()?;
        match frame.kind {
            kind::SETTINGS if frame.flags & flag::ACK == 0 => {
                wire.try_send(RawFrame::settings(&[]).with_flags(flag::ACK).bytes()).ok()?;
            }
            kind::HEADERS => {
                let fields = decoder.decode(&frame.payload).ok()?;
                let path = fields.iter().find(|(name, _)| name == b":path");
                let path = String::from_utf8_lossy(&path?.1).into_owned();
                let frames = match seed_of(&path) {
                    Some(seed) => mutated_response(seed, frame.stream),
                    None => vec![
                        RawFrame::headers(frame.stream, &[(":status", "200")], false),
                        RawFrame::data(frame.stream, path, true),
                    ],
                };
                let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
                wire.try_send(bytes).ok()?;
            }
            _ => {}
        }
    }
}

/// On the stream that it is for, in place of 1.
fn mutated_response(seed: u64, stream: u32) -> Vec<RawFrame> {
    let mut random = Rng::with_seed(seed);
    let mut corpus = responses_in_frames();
    let mut frames = corpus.swap_remove(random.usize(0..corpus.len()));
    mutate_frames(&mut random, &mut frames);
    for frame in frames.iter_mut().filter(|frame| frame.stream == 1) {
        frame.stream = stream;
    }
    frames
}

#[test]
fn no_frames_of_an_upstream_become_a_part_of_another_response() {
    let origin = Origin::start(|connection| {
        if connection.wire.greets() {
            connection.wire.try_send(RawFrame::settings(&[]).bytes()).ok();
            answers(&mut connection.wire, &mut HeaderDecoder::default());
        }
    });
    let proxy = Proxy::before(&origin, &SHORT.replace("PROTOCOL", "http2"));
    for seed in seeds(100) {
        any_answer(&proxy, &get(&format!("/odd/{seed}"), &format!("odd-{seed}")));
        next_is_well(&proxy, seed);
    }
}

// ===== configurations =====

fn configurations() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = fs::read_dir(root.join("examples/configs")).expect("the examples");
    let files = examples.map(|file| file.expect("a file").path());
    let texts = files.map(|file| fs::read_to_string(file).expect("text"));
    let mut all: Vec<_> = texts.collect();
    let pages = ["docs/upstreams.md", "docs/grpc.md", "docs/policies/cache.md", "README.md"];
    for page in pages {
        let page = fs::read_to_string(root.join(page)).expect("a page");
        let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        all.extend(blocks.map(str::to_owned));
    }
    all.sort();
    all
}

const VALUES: [&str; 20] = [
    "-1",
    "0",
    "1",
    "99999999999999999999",
    "1e400",
    "nan",
    "true",
    "''",
    "'a'",
    "'10s'",
    "'1MiB'",
    "'-1s'",
    "'99999999999d'",
    "[]",
    "['a']",
    "[[]]",
    "{}",
    "{ a = 1 }",
    "'http://['",
    "'\u{e9}'",
];

/// Changes lines and values, or bytes.
fn mutate_config(random: &mut Rng, text: &str, other: &str) -> String {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let others: Vec<_> = other.lines().collect();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(0..lines.len());
        match random.u8(0..6) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[random.usize(0..lines.len())].clone()),
            2 => lines.insert(at, others[random.usize(0..others.len())].to_owned()),
            3 => {
                let mut bytes = lines[at].clone().into_bytes();
                mutate(random, &mut bytes);
                lines[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
            _ => {
                if let Some((key, _)) = lines[at].clone().split_once('=') {
                    lines[at] = format!("{key}= {}", VALUES[random.usize(0..VALUES.len())]);
                }
            }
        }
    }
    lines.join("\n")
}

/// It is refused with a place for each problem, or taken; nothing panics.
#[test]
fn a_configuration_is_taken_or_told_where_it_is_wrong() {
    let (corpus, directory) = (configurations(), tempfile::tempdir().expect("a directory"));
    let file = directory.path().join("fusebox.toml");
    for seed in seeds(1_000) {
        let mut random = Rng::with_seed(seed);
        let mut any = || &corpus[random.usize(0..corpus.len())];
        let (text, other) = (any(), any());
        let text = mutate_config(&mut random, text, other);
        fs::write(&file, &text).expect("a file");
        let read = load(&file, Compiler::in_process(), |_| Observers::default());
        for error in read.err().unwrap_or_default() {
            let is_placed = error.line.is_some_and(|line| line <= text.lines().count() + 1);
            let is_of_all = error.message.starts_with("missing");
            assert!(is_placed || is_of_all, "seed {seed}: {error}\n{text}");
            assert!(!error.to_string().contains('\n'), "seed {seed}: {error}");
        }
    }
}

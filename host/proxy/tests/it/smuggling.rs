//! Smuggling, over all four pairs of protocols: hostile bytes and frames through the real proxy to
//! an upstream that takes only what is flawless. What it is asked is what was meant, and what the
//! log tells; nothing of a request becomes a part of another one, and each answer goes to whom it
//! is for.

mod http1_upstream;
mod http2_upstream;
#[path = "../../../http1/tests/it/requests.rs"]
mod odd_requests;
mod recorded;
mod recorder;
mod requests;

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;

use fastrand::Rng;
use fusebox_dev::{HeaderDecoder, Message, RawFrame, Wire, flag, get, kind};
use serde_json::Value;

use crate::fuzzing::{is_well, mutate_frames, seeds};
use crate::support::Proxy;
use odd_requests::{FAMILIES, OddRequest};
use recorded::Recorded;
use recorder::Recorder;
use requests::Hostile;

/// What the codec takes, and the proxy answers by itself.
const ANSWERED_BY_THE_PROXY: [(&str, u16); 6] = [
    ("targets: with a user", 400),
    ("targets: an asterisk", 204),
    ("connections: an expectation that nobody knows", 417),
    ("hosts: no host", 400),
    ("hosts: two hosts", 400),
    ("hosts: an odd host", 400),
];

/// What comes to the upstream beside what the client says.
const ADDED: [&str; 8] = [
    "content-length",
    "te",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// A proxy before a recorder, and what was sent through it.
struct Bench {
    recorder: Recorder,
    proxy: Proxy,
    /// As cases tell what came.
    told: fn(&Recorded) -> String,
    sent: Vec<Sent>,
    wrong: Vec<String>,
}

/// What was sent, and what should have come of it.
struct Sent {
    what: String,
    text: String,
    expected: Vec<String>,
    /// The numbers of the requests that came meanwhile.
    came: Range<usize>,
}

impl Bench {
    fn new(recorder: Recorder, protocol: &str) -> Self {
        let config = format!(
            "workers = 1\n[[routes]]\nupstream = {{ url = 'ORIGIN', protocol = '{protocol}' }}\n"
        );
        let proxy = Proxy::before(&recorder, &config);
        let told = |request: &Recorded| request.to_string();
        Self { recorder, proxy, told, sent: Vec::new(), wrong: Vec::new() }
    }

    /// After a case, a request of somebody else's gets its own answer.
    fn next(&mut self, what: String, text: String, expected: Vec<String>, begin: usize) {
        let id = format!("after-{}", self.sent.len());
        let answer = self.proxy.ask(get("/after", &id));
        if answer.text() != id {
            self.wrong.push(format!("{what}: somebody else got {answer:?}"));
        }
        // Its own is the last, if it came.
        let came = begin..self.recorder.count().saturating_sub(1).max(begin);
        self.sent.push(Sent { what, text, expected, came });
    }

    /// Holds what came against what should, and against the log.
    #[track_caller]
    fn judge(mut self) {
        let came = self.recorder.requests();
        for sent in &self.sent {
            let whole = came[sent.came.clone()].iter().filter(|request| request.is_whole);
            let whole: Vec<_> = whole.collect();
            let mut told: Vec<_> = whole.iter().map(|request| (self.told)(request)).collect();
            // Streams have no order.
            told.sort();
            let mut expected = sent.expected.clone();
            expected.sort();
            if told != expected {
                self.wrong.push(format!("{}: {told:?} for {expected:?}", sent.what));
            }
            let foreign = whole.iter().flat_map(|request| foreign(request, &sent.text));
            self.wrong.extend(foreign.map(|field| format!("{}: {field}", sent.what)));
        }
        self.wrong.extend(self.recorder.flaws());
        self.wrong.extend(self.differs_from_the_log(&came));
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }

    /// Each request that came is one of the log's, and each of the log's that was answered came.
    fn differs_from_the_log(&self, came: &[Recorded]) -> Vec<String> {
        let whole = || came.iter().filter(|request| request.is_whole);
        let lines = self.proxy.wait("a line for each request", |lines| {
            let access: Vec<_> =
                lines.iter().filter(|line| line.get("request").is_some()).collect();
            let is_told = |id: &str| access.iter().any(|line| line["request_id"] == id);
            whole()
                .all(|request| is_told(request.id()))
                .then(|| access.into_iter().cloned().collect())
        });
        let lines: Vec<Value> = lines;
        let mut told: BTreeMap<&str, &Value> = BTreeMap::new();
        let mut wrong = Vec::new();
        for line in &lines {
            if told.insert(line["request_id"].as_str().unwrap_or_default(), line).is_some() {
                wrong.push(format!("told twice: {line}"));
            }
        }
        for request in whole() {
            match told.remove(request.id()) {
                Some(line) if is_told_so(request, line) => {}
                line => wrong.push(format!("came: {request:?}, told: {line:?}")),
            }
        }
        let answered = told.values().filter(|line| line["response"]["status"] == 200);
        wrong.extend(answered.map(|line| format!("did not come: {line}")));
        wrong
    }
}

/// With its host, if that is another one.
fn with_host(request: &Recorded) -> String {
    let host = if request.host == "b.example" { "" } else { &request.host };
    format!("{request} {host}").trim_end().to_owned()
}

/// What a request has that nobody said.
fn foreign(request: &Recorded, sent: &str) -> Vec<String> {
    let fields = request.fields.iter().filter(|(name, _)| !ADDED.contains(&name.as_str()));
    let fields = fields.chain(&request.trailers);
    // Pieces of a cookie are put together.
    let is_said = |text: &str| text.split("; ").all(|part| sent.contains(part));
    let foreign = fields.filter(|(name, value)| {
        !sent.to_ascii_lowercase().contains(name.as_str()) || !is_said(value)
    });
    foreign.map(|(name, value)| format!("nobody said {name}: {value}")).collect()
}

fn is_told_so(request: &Recorded, line: &Value) -> bool {
    let line = &line["request"];
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let target = match text("query") {
        "" => text("path").to_owned(),
        query => format!("{}?{query}", text("path")),
    };
    // What was not announced, and who did not say whom he asks: HTTP/1.0 may.
    let length = line["length"].as_u64().unwrap_or_default() as usize;
    let is_length = [0, request.body.len()].contains(&length);
    let is_host = ["", &request.host].contains(&text("host"));
    text("method") == request.method
        && target == request.target.trim_end_matches('?')
        && is_length
        && is_host
}

// ===== HTTP/1.1 =====

/// What a client of HTTP/1.1 is to see of what `odd` makes: the requests that go on, and the status
/// behind them.
struct Reading {
    /// Each with its method, and `None`, or with the status that the proxy answers by itself.
    requests: Vec<(String, Option<u16>)>,
    refused: Option<u16>,
    is_cut: bool,
}

fn reading(name: &str, odd: &OddRequest) -> Reading {
    let own = ANSWERED_BY_THE_PROXY.iter().find(|(it, _)| *it == name).map(|(_, status)| *status);
    let mut reading = Reading { requests: Vec::new(), refused: None, is_cut: false };
    for part in odd.seen.split(" | ").filter(|part| !part.is_empty()) {
        match part.split_once(' ') {
            Some((status, _)) if status.parse::<u16>().is_ok() => {
                reading.refused = status.parse().ok();
            }
            Some(_) => {
                let status = own.filter(|_| reading.requests.is_empty());
                reading.requests.push((as_sent_on(part), status));
            }
            None if part == "…" => reading.is_cut = true,
            None if part == "end" => {}
            // A fault within a body.
            None => reading.refused = Some(400),
        }
    }
    reading
}

/// Without trailers, and without what a target has before its path.
fn as_sent_on(part: &str) -> String {
    let part = part.split(" (").next().unwrap_or_default();
    let Some((method, rest)) = part.split_once(' ') else { return part.to_owned() };
    let (target, body) = rest
        .split_once(' ')
        .map_or((rest, String::new()), |(target, body)| (target, format!(" {body}")));
    let Some((_, after)) = target.split_once("://") else { return part.to_owned() };
    let at = after.find(['/', '?']).unwrap_or(after.len());
    let slash = if after[at..].starts_with('/') { "" } else { "/" };
    format!("{method} {slash}{}{body}", &after[at..])
}

fn final_head(wire: &mut Wire) -> Option<Message> {
    iter::from_fn(|| wire.head()).find(|head| head.status() >= 200)
}

impl Bench {
    fn send_http1(&mut self, name: String, odd: &OddRequest) {
        let (begin, reading) = (self.recorder.count(), reading(&name, odd));
        let mut wire = self.proxy.connect();
        wire.try_send(odd.sent).ok();
        let mut expected = Vec::new();
        for (request, own) in &reading.requests {
            let Some(mut answer) = final_head(&mut wire) else {
                self.wrong.push(format!("{name}: no answer to {request}"));
                break;
            };
            if !request.starts_with("HEAD ") && answer.status() != 204 {
                let length = answer.header("content-length").and_then(|it| it.parse().ok());
                answer.body = wire.up_to(length.expect("a length"));
                let is_own = answer.header("x-request-id") == Some(answer.text());
                if own.is_none() && !is_own {
                    self.wrong.push(format!("{name}: {request} got {answer:?}"));
                }
            }
            if answer.status() != own.unwrap_or(200) {
                self.wrong.push(format!("{name}: {request} got {}", answer.status()));
            }
            expected.extend(own.is_none().then(|| request.clone()));
        }
        if let Some(status) = reading.refused {
            let answer = final_head(&mut wire).map(|head| head.status());
            if answer != Some(status) {
                self.wrong.push(format!("{name}: {answer:?} in place of {status}"));
            }
        }
        drop(wire);
        self.next(name, odd.sent.to_owned(), expected, begin);
    }

    fn send_all_http1(mut self) {
        for (family, odd) in FAMILIES {
            for odd in odd.iter().filter(|odd| !odd.sent.starts_with("PRI ")) {
                self.send_http1(format!("{family}: {}", odd.what), odd);
            }
        }
        self.judge();
    }
}

#[test]
fn odd_requests_are_what_they_are_to_an_upstream_over_http1() {
    Bench::new(Recorder::http1(), "http1").send_all_http1();
}

#[test]
fn odd_requests_are_what_they_are_to_an_upstream_over_http2() {
    Bench::new(Recorder::http2(), "http2").send_all_http1();
}

// ===== HTTP/2 =====

/// What a client sees of its streams.
#[derive(Debug, Default)]
struct Streams {
    decoder: HeaderDecoder,
    /// The status of the case's, its id and its body.
    answer: (String, String, String),
    /// What became of the case's, and of the one behind it.
    ended: BTreeMap<u32, String>,
}

/// Behind the case, on the same connection.
const BEHIND: u32 = 11;

impl Streams {
    /// Reads until both streams have ended, or the connection.
    fn read(wire: &mut Wire) -> Self {
        let mut streams = Self::default();
        while streams.ended.len() < 2 {
            let Some(frame) = wire.frame() else { break };
            streams.take(&frame);
            if frame.kind == kind::GOAWAY {
                streams.ended.entry(1).or_insert_with(|| "ends".into());
                break;
            }
        }
        streams
    }

    fn take(&mut self, frame: &RawFrame) {
        match frame.kind {
            kind::HEADERS => {
                let fields = self.decoder.decode(&frame.payload).expect("a head");
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let fields: BTreeMap<_, _> =
                    fields.iter().map(|(name, value)| (text(name), text(value))).collect();
                if frame.stream == 1 {
                    let of = |name: &str| fields.get(name).cloned().unwrap_or_default();
                    self.answer = (of(":status"), of("x-request-id"), String::new());
                }
            }
            kind::DATA if frame.stream == 1 => {
                self.answer.2 += &String::from_utf8_lossy(&frame.payload);
            }
            kind::RESET => {
                self.ended.insert(frame.stream, "reset".into());
            }
            _ => {}
        }
        let may_be_last = [kind::HEADERS, kind::DATA].contains(&frame.kind);
        if may_be_last && frame.flags & flag::END_STREAM != 0 {
            self.ended.entry(frame.stream).or_insert_with(|| self.answer.0.clone());
        }
    }
}

impl Bench {
    fn send_http2(&mut self, hostile: &Hostile) {
        let (begin, what) = (self.recorder.count(), hostile.what);
        let mut wire = self.proxy.connect();
        wire.begin_http2(&[]);
        let id = format!("behind-{}", self.sent.len());
        let behind = [&fusebox_dev::GET[..], &[("x-request-id", &id)]].concat();
        let behind = RawFrame::headers(BEHIND, &behind, true);
        for frame in hostile.frames.iter().chain([&behind]) {
            wire.try_send(frame.bytes()).ok();
        }
        let streams = Streams::read(&mut wire);
        let ended = streams.ended.get(&1).cloned().unwrap_or_default();
        let is_word = hostile.seen == "reset" || hostile.seen == "ends";
        let goes_on = !is_word && hostile.seen.parse::<u16>().is_err();
        if ended != if goes_on { "200" } else { hostile.seen } {
            self.wrong.push(format!("{what}: {ended} in place of {}", hostile.seen));
        }
        let (_, id, body) = &streams.answer;
        if goes_on && id != body && !hostile.seen.starts_with("HEAD") {
            self.wrong.push(format!("{what}: {id} was answered {body}"));
        }
        let mut expected: Vec<_> = goes_on.then(|| hostile.seen.to_owned()).into_iter().collect();
        if ended != "ends" {
            expected.push("GET /".into());
        }
        let sent = hostile.frames.iter().map(|it| String::from_utf8_lossy(&it.payload));
        let sent: Vec<_> = sent.collect();
        drop(wire);
        self.next(what.to_owned(), sent.join(""), expected, begin);
    }

    fn send_all_http2(mut self) {
        self.told = with_host;
        for hostile in requests::all() {
            self.send_http2(&hostile);
        }
        self.judge();
    }
}

#[test]
fn hostile_streams_are_what_they_are_to_an_upstream_over_http1() {
    Bench::new(Recorder::http1(), "http1").send_all_http2();
}

#[test]
fn hostile_streams_are_what_they_are_to_an_upstream_over_http2() {
    Bench::new(Recorder::http2(), "http2").send_all_http2();
}

// ===== mutations =====

/// Whatever a client makes of these, what comes to the upstream is flawless and what the log tells,
/// and somebody else gets the own answer.
#[track_caller]
fn send_mutations(recorder: Recorder, protocol: &str) {
    let (mut bench, corpus) = (Bench::new(recorder, protocol), requests::all());
    for seed in seeds(100) {
        let mut random = Rng::with_seed(seed);
        let mut frames = corpus[random.usize(0..corpus.len())].frames.clone();
        mutate_frames(&mut random, &mut frames);
        let mut wire = bench.proxy.connect();
        wire.begin_http2(&[]);
        frames.push(RawFrame::ping(*b"the last"));
        wire.try_send(frames.iter().flat_map(RawFrame::bytes).collect::<Vec<_>>()).ok();
        // Until all of it has been read.
        while wire.frame().is_some_and(|it| (it.kind, it.flags) != (kind::PING, flag::ACK)) {}
        drop(wire);
        bench.next(format!("seed {seed}"), String::new(), Vec::new(), 0);
        is_well(&bench.proxy, seed);
    }
    let came = bench.recorder.requests();
    bench.wrong.extend(bench.recorder.flaws());
    bench.wrong.extend(bench.differs_from_the_log(&came));
    assert!(bench.wrong.is_empty(), "{:#?}", bench.wrong);
}

#[test]
fn mutated_streams_are_flawless_to_an_upstream_over_http1() {
    send_mutations(Recorder::http1(), "http1");
}

#[test]
fn mutated_streams_are_flawless_to_an_upstream_over_http2() {
    send_mutations(Recorder::http2(), "http2");
}

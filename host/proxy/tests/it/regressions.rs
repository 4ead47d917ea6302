//! What went wrong once, each as it was found.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fusebox_dev::{ClosedDoor, LIMIT, Message, Origin, answer, eventually, get, ok, post};
use serde_json::json;

use crate::cli::{complaints, config, directory, waiting_origin};
use crate::components::{FALLBACK, begins_badly, says, with_component};
use crate::errors::{hanging, is_problem};
use crate::support::{Proxy, ROUTE, fusebox, verdict, without_pseudonym};

/// A channel whose sender threads may share.
fn shared_channel<T>() -> (Mutex<Sender<T>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

fn tell<T>(sender: &Mutex<Sender<T>>, what: T) {
    sender.lock().expect("no panic").send(what).ok();
}

/// How many attempts the access line of `id` tells of.
#[track_caller]
fn attempts(proxy: &Proxy, id: &str) -> serde_json::Value {
    proxy.story(id).last().expect("an access line")["attempts"].clone()
}

/// 40 KiB of which every part can be told from the others.
fn upload() -> Vec<u8> {
    (0..10 * 1024).flat_map(|number: u32| number.to_be_bytes()).collect()
}

const HALF: usize = 20 * 1024;

fn put_head(id: &str, length: usize) -> String {
    format!("PUT / HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\ncontent-length: {length}\r\n\r\n")
}

fn retrying(max_replay_body: &str) -> String {
    format!(
        "workers = 1\n[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n\
         [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n\
         max_replay_body = '{max_replay_body}'\n"
    )
}

// ===== request bodies =====

/// The first attempt went on reading the client's body after its 503, and took it from the second
/// one.
#[test]
fn an_upload_that_is_refused_early_is_sent_whole_by_the_retry() {
    let (arrived, retry) = shared_channel();
    let (left, leftover) = shared_channel();
    let origin = Origin::start(move |connection| {
        let Some(seen) = connection.head() else { return };
        if seen.number == 0 {
            connection.wire.exactly(HALF);
            connection.wire.send(answer(503, "", "busy"));
            return tell(&left, connection.wire.rest());
        }
        tell(&arrived, Vec::new());
        let body = connection.wire.exactly(2 * HALF);
        connection.wire.send(ok("thanks"));
        tell(&arrived, body);
    });
    let proxy = Proxy::before(&origin, &retrying("64KiB"));
    let body = upload();
    let mut client = proxy.connect();
    client.send(put_head("1", body.len()));
    client.send(&body[..HALF]);
    assert_eq!(retry.recv_timeout(LIMIT).expect("the retry"), b"");
    client.send(&body[HALF..]);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (200, "thanks"));
    assert!(retry.recv_timeout(LIMIT).expect("a body") == body, "all of it, in order");
    assert_eq!(
        leftover.recv_timeout(LIMIT).expect("its connection ends"),
        b"",
        "the first attempt got no more"
    );
    assert_eq!(attempts(&proxy, "1"), 2);
}

/// The same with a body in chunks, of which nobody knows how long it will be.
#[test]
fn a_chunked_upload_that_is_refused_early_is_sent_whole_by_the_retry() {
    let (arrived, retry) = shared_channel();
    let origin = Origin::start(move |connection| {
        let Some(seen) = connection.head() else { return };
        if seen.number == 0 {
            connection.wire.chunk();
            connection.wire.send(answer(503, "", "busy"));
            connection.wire.rest();
            return;
        }
        let mut body = Vec::new();
        loop {
            let chunk = connection.wire.chunk();
            if chunk.is_empty() {
                break;
            }
            if body.is_empty() {
                tell(&arrived, Vec::new());
            }
            body.extend(chunk);
        }
        connection.wire.send(ok("thanks"));
        tell(&arrived, body);
    });
    let proxy = Proxy::before(&origin, &retrying("64KiB"));
    let body = upload();
    let mut client = proxy.connect();
    client
        .send("PUT / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("{HALF:x}\r\n"));
    client.send(&body[..HALF]);
    client.send("\r\n");
    assert_eq!(retry.recv_timeout(LIMIT).expect("the retry"), b"");
    client.send(format!("{HALF:x}\r\n"));
    client.send(&body[HALF..]);
    client.send("\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "thanks");
    assert!(retry.recv_timeout(LIMIT).expect("a body") == body, "all of it, in order");
    assert_eq!(attempts(&proxy, "1"), 2);
}

#[test]
fn an_upload_over_the_replay_limit_that_is_refused_early_has_its_one_answer() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.wire.exactly(HALF);
        connection.wire.send(answer(503, "x-why: early\r\n", "busy"));
        connection.wire.rest();
    });
    let proxy = Proxy::before(&origin, &retrying("16KiB"));
    let body = upload();
    let mut client = proxy.connect();
    client.send(put_head("1", body.len()));
    client.send(&body[..HALF]);
    let response = client.response();
    assert_eq!(
        (response.status(), response.text(), response.header("x-why")),
        (503, "busy", Some("early"))
    );
    assert_eq!(attempts(&proxy, "1"), 1);
    assert_eq!(origin.seen().len(), 1);
}

/// Nobody reads the rest, which is too long to be read away: who sends on is to know that.
#[test]
fn an_early_answer_of_our_own_says_that_its_connection_ends() {
    let door = ClosedDoor::refusing();
    let fallback = "[policies.fallback]\nkind = 'fallback'\nrespond = { status = 200 }\n";
    for (route, status) in [
        ("[[routes]]\nupstream = 'ORIGIN'\n", 502),
        ("[listener]\nmax_body = '1MiB'\n[[routes]]\nupstream = 'ORIGIN'\n", 413),
        ("[[routes]]\nhost = 'nowhere'\nupstream = 'ORIGIN'\n", 404),
        ("[[routes]]\nupstream = 'ORIGIN'\npolicies = ['fallback']\n", 200),
    ] {
        let proxy = Proxy::before(&door, &format!("{fallback}{route}"));
        for (length, ends) in [(2 << 20, Some("close")), (60 << 10, None)] {
            if status == 413 && ends.is_none() {
                continue;
            }
            let mut client = proxy.connect();
            client.send(put_head("1", length));
            let answer = client.response();
            assert_eq!((answer.status(), answer.header("connection")), (status, ends), "{route}");
        }
    }
}

/// The predicate looks at the body of the 503 while the origin reads on, until there is more than
/// can be repeated.
#[test]
fn an_upload_that_outgrows_the_replay_limit_while_its_answer_is_looked_at_has_that_answer() {
    let (looking, looks) = shared_channel();
    let origin = Origin::start(move |connection| {
        connection.head();
        connection.wire.exactly(HALF);
        connection
            .wire
            .send("HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n4\r\n!bus\r\n");
        tell(&looking, ());
        connection.wire.exactly(HALF);
        connection.wire.send("1\r\ny\r\n0\r\n\r\n");
        connection.wire.rest();
    });
    let config = "workers = 1\n[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
        [policies.retry]\nkind = 'retry'\nhandle_if = { component = 'c' }\ndelay = '1ms'\n\
        max_retries = 1\n\
        [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\nmax_replay_body = '32KiB'\n";
    let proxy = with_component(
        &origin,
        &begins_badly(),
        config,
        "peek_body = '1KiB'\npeek_timeout = '10s'",
    );
    let body = upload();
    let mut client = proxy.connect();
    client.send(put_head("1", body.len()));
    client.send(&body[..HALF]);
    looks.recv_timeout(LIMIT).expect("an early answer");
    client.send(&body[HALF..]);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (503, "!busy"));
    assert_eq!(attempts(&proxy, "1"), 1);
    assert_eq!(origin.seen().len(), 1);
}

/// hyper leaves out a body of unknown length with these methods; what the client had sent was lost.
#[test]
fn a_chunked_body_goes_on_whatever_the_method_and_leaves_its_connection() {
    let origin = Origin::answering([answer(200, "", "")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut client = proxy.connect();
    let methods = ["GET", "HEAD", "DELETE", "OPTIONS", "POST"];
    for method in methods {
        let response = client.ask(format!(
            "{method} / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nin \r\n6\r\n\
             chunks\r\n0\r\n\r\n"
        ));
        assert_eq!(response.status(), 200, "{method}");
    }
    for (method, seen) in methods.into_iter().zip(origin.seen()) {
        let request = seen.request;
        assert_eq!(
            (request.start.as_str(), request.text()),
            (format!("{method} / HTTP/1.1").as_str(), "in chunks")
        );
        assert_eq!(
            (request.header("transfer-encoding"), request.header("content-length")),
            (Some("chunked"), None)
        );
    }
    assert_eq!((origin.seen().len(), origin.connections()), (5, 1));
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    assert_eq!(
        origin.seen()[5].request.header("transfer-encoding"),
        None,
        "and without a body there is none"
    );
    assert_eq!(origin.connections(), 1);
}

/// It was a 408, as if the client had been too slow.
#[test]
fn a_chunk_that_is_none_is_a_400_and_one_that_stalls_a_408() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("[listener]\nbody_timeout = '300ms'\n{ROUTE}"));
    for (body, status, title) in [
        ("hello\r\n", 400, "request body not valid"),
        ("5\r\nhelloX\r\n0\r\n\r\n", 400, "request body not valid"),
        ("3\r\nabc\r\n-1\r\n", 400, "request body not valid"),
        ("FFFFFFFFFFFFFFFFF\r\nabc", 400, "request body not valid"),
        ("5\r\nhell", 408, "request incomplete"),
        ("5\r\nhello\r\n", 408, "request incomplete"),
    ] {
        let mut client = proxy.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\n\
                           transfer-encoding: chunked\r\n\r\n{body}"
        ));
        let response = client.response();
        assert_eq!(response.status(), status, "{body:?}");
        is_problem(&response, "1", status, "http_request_error", title);
        assert_eq!(client.rest(), b"", "{body:?}");
    }
    eventually("broken requests", || {
        origin.seen().iter().all(|seen| seen.request.broken.is_some()).then_some(())
    });
    assert_eq!(proxy.ask(post("whole", "2")).status(), 200);
}

// ===== responses =====

/// The length went on beside the chunks: who believes it reads the rest as the next response.
#[test]
fn a_length_beside_chunks_does_not_go_on() {
    for length in [3, 5, 100] {
        let origin = Origin::answering([
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            ),
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: Chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            ),
            ok("the next"),
        ]);
        let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
        let mut client = proxy.connect();
        for id in ["1", "2"] {
            let response = client.ask(get("/", id));
            assert_eq!(
                (response.text(), response.header("content-length")),
                ("hello", None),
                "{length}"
            );
            assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        }
        assert_eq!(client.ask(get("/", "3")).text(), "the next");
    }
}

#[test]
fn a_transfer_coding_that_nobody_asked_for_is_a_502() {
    for coding in ["gzip, chunked", "gzip"] {
        let origin = Origin::start(move |connection| {
            connection.request();
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n");
            connection.wire.send(head + "5\r\nhello\r\n0\r\n\r\n");
            connection.wire.rest();
        });
        let proxy = Proxy::before(&origin, ROUTE);
        let response = proxy.ask(get("/", "1"));
        is_problem(&response, "1", 502, "http_protocol_error", "upstream sent invalid http");
    }
}

/// It kept its place, and the upstream's connection, for as long as it liked.
#[test]
fn a_client_that_takes_nothing_of_what_it_asked_for_is_cut() {
    for framing in ["transfer-encoding: chunked", "content-length: 10000000000"] {
        let (cut, cuts) = shared_channel();
        let origin = Origin::start(move |connection| {
            connection.request();
            connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let error = loop {
                if let Err(error) = connection.wire.try_send(&piece) {
                    break error.kind();
                }
            };
            tell(&cut, error);
        });
        let proxy = Proxy::before(&origin, &format!("[listener]\nbody_timeout = '300ms'\n{ROUTE}"));
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        let error = cuts.recv_timeout(LIMIT).expect("the origin sees it go");
        assert!(
            matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{framing}: {error}"
        );
        proxy.story("1");
        let mut client = client;
        assert!(client.any_response().broken.is_some(), "{framing}: it does not look whole");
    }
}

#[test]
fn an_upstream_that_never_answers_has_a_limit_of_its_own() {
    let origin = hanging();
    let proxy = Proxy::before(
        &origin,
        "[[routes]]\nupstream = { url = 'ORIGIN', response_timeout = '200ms' }",
    );
    for (id, request) in [("1", get("/", "1")), ("2", post("a body", "2"))] {
        is_problem(&proxy.ask(request), id, 504, "http_response_timeout", "timeout exceeded");
        assert_eq!(proxy.told(id), ["504: Gateway Timeout"]);
        assert_eq!(proxy.story(id)[0]["detail"], "no response in time");
    }
}

#[test]
fn the_limit_on_an_answer_is_none_on_its_body() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        connection.wire.stays_silent(Duration::from_millis(900));
        connection.wire.send("half");
    });
    let proxy = Proxy::before(
        &origin,
        "[[routes]]\nupstream = { url = 'ORIGIN', response_timeout = '600ms' }",
    );
    assert_eq!(proxy.ask(get("/", "1")).text(), "halfhalf");
}

/// `ECONNREFUSED` was nowhere to be found.
#[test]
fn the_cause_of_a_failure_is_in_the_access_line_and_not_in_the_answer() {
    let proxy = Proxy::before(&ClosedDoor::refusing(), ROUTE);
    let response = proxy.ask(get("/", "1"));
    is_problem(&response, "1", 502, "connection_refused", "connection refused");
    assert!(!format!("{response:?}{}", response.text()).contains("os error"), "{response:?}");
    let story = proxy.story("1");
    assert_eq!(story[0]["detail"], "Connection refused (os error 111)");

    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    proxy.ask(get("/", "2"));
    assert_eq!(proxy.story("2")[0].get("detail"), None, "where nothing failed there is none");
}

// ===== heads =====

/// `Connection: host` took away what the request had been routed by, and what an earlier proxy had
/// vouched for.
#[test]
fn connection_takes_along_what_it_names_but_not_what_is_meant_for_all() {
    let origin = Origin::answering([ok("")]);
    let trusted = "listener = { trusted = ['127.0.0.1'] }\n";
    let proxy = Proxy::before(&origin, &format!("{trusted}{ROUTE}"));
    proxy.ask(
        "GET / HTTP/1.1\r\nHost: b.example\r\nX-Request-Id: 1\r\nX-Forwarded-Proto: https\r\n\
         Authorization: Bearer x\r\nCookie: a=b\r\nX-Private: 1\r\nX-Kept: 1\r\n\
         Connection: host, x-forwarded-proto, Authorization, x-request-id\r\n\
         Connection: cookie, x-private, via, x-forwarded-for\r\n\r\n",
    );
    let request: Message = origin.only();
    for (name, value) in [
        ("host", Some("b.example")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("b.example")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("authorization", Some("Bearer x")),
        ("cookie", Some("a=b")),
        ("x-request-id", Some("1")),
        ("via", Some("1.1 fusebox")),
        ("x-kept", Some("1")),
        ("x-private", None),
        ("connection", None),
    ] {
        let sent = request.header(name).map(without_pseudonym);
        assert_eq!(sent.as_deref(), value, "{name}");
    }
}

/// Its authority became the host, whatever the header said.
#[test]
fn an_authority_alone_is_no_target() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    for target in ["b.example", "b.example:80"] {
        let response = proxy.ask(get(target, "1"));
        assert_eq!(response.status(), 400);
        assert!(response.text().contains("invalid request target"), "{}", response.text());
    }
    assert_eq!(origin.seen().len(), 0);
}

/// With the base path in front it was no URI any more, and `/` was asked for in its place.
#[test]
fn a_target_that_is_too_long_with_the_base_path_is_a_414() {
    let origin = Origin::answering([ok("")]);
    let config = "[listener]\nmax_header = '256KiB'\n[[routes]]\nupstream = 'ORIGIN/base'";
    let proxy = Proxy::before(&origin, config);
    // What there is room for beside the base, and the slash.
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    let longest = 65_532 - "/base".len();
    assert_eq!(proxy.ask(get(&path(longest), "1")).status(), 200);
    assert!(origin.only().target() == format!("/base{}", path(longest)));
    for length in [longest + 1, longest + 2, 65_533] {
        is_problem(
            &proxy.ask(get(&path(length), "2")),
            "2",
            414,
            "http_request_error",
            "target too long",
        );
    }
    let mut client = proxy.connect();
    client.send(get(&path(70_000), "3"));
    assert_eq!(client.head().expect("a response").status(), 414);
    assert_eq!(origin.seen().len(), 1);
}

// ===== the configuration =====

/// They were added to a point in time, which panicked, or asked for more places than there are.
#[test]
fn numbers_that_nobody_can_mean_are_refused() {
    let directory = directory(&config(
        "[listener]\nidle_timeout = '300000000000years'\n\
         [policies.limit]\nkind = 'timeout'\nlimit = '18446744073709551615s'\n\
         [policies.breaker]\nkind = 'circuit-breaker'\ndelay = '0s'\ndelay_factor = 2\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['breaker', 'limit']\n",
    ));
    let all = complaints(directory.path()).join("\n");
    for (place, problem) in [
        ("listener.idle_timeout", "must be at most 10 years, is `300000000000years`"),
        ("policies.limit.limit", "must be at most 10 years, is `18446744073709551615s`"),
        (
            "policies.breaker.delay_factor",
            "needs a `delay` of more than 0, which it could make grow",
        ),
    ] {
        assert!(
            all.lines().any(|line| line.ends_with(&format!("{place}: {problem}"))),
            "{place}:\n{all}"
        );
    }
}

#[test]
fn as_many_connections_as_nobody_can_have_are_refused() {
    for (number, good) in
        [("9223372036854775807", false), ("1000001", false), ("0", false), ("1000000", true)]
    {
        let directory = directory(
            &config(&format!("[listener]\nmax_connections = {number}\n{ROUTE}"))
                .replace("ORIGIN", "http://b"),
        );
        if good {
            assert_eq!(fusebox(directory.path(), &["check"]).code, Some(0));
        } else {
            let expected = format!(
                "fusebox.toml:4: listener.max_connections: must be from 1 to 1000000, is {number}"
            );
            assert_eq!(complaints(directory.path()), [expected], "{number}");
        }
    }
}

const BREAKER: &str = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                       [[routes]]\nupstream = 'http://b.invalid'\npolicies = ['breaker']\n";

/// It was looked for where the program happened to be started.
#[test]
fn the_token_file_is_beside_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("conf")).expect("a directory");
    fs::write(directory.path().join("conf/token"), "beside\n").expect("a file");
    fs::write(directory.path().join("token"), "elsewhere\n").expect("a file");
    let config = format!(
        "listen = '127.0.0.1:0'\nadmin = {{ listen = '127.0.0.1:0', token_file = 'token' }}\n\
         {BREAKER}"
    );
    let proxy = Proxy::run_file(directory, "conf/fusebox.toml", &config);
    for (token, status) in [("elsewhere", 401), ("beside", 200)] {
        let token = format!("authorization: Bearer {token}\r\n");
        assert_eq!(
            proxy.admin_with("POST /policies/breaker/open", &token).status(),
            status,
            "{token}"
        );
    }
}

#[test]
fn a_token_file_that_is_missing_is_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("conf")).expect("a directory");
    // Not the one that is meant.
    fs::write(directory.path().join("token"), "elsewhere\n").expect("a file");
    let config = format!(
        "listen = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\ntoken_file = 'token'\n{BREAKER}"
    );
    fs::write(directory.path().join("conf/fusebox.toml"), config).expect("a file");
    let check = || fusebox(directory.path(), &["check", "conf/fusebox.toml"]);
    let checked = check();
    assert_eq!((checked.code, verdict(&checked.out)), (Some(0), "conf/fusebox.toml: ok"));
    let missing = "warning: conf/fusebox.toml:4: admin.token_file: \
                   can't be read: No such file or directory (os error 2)\n";
    assert_eq!(checked.error, missing);
    let token = directory.path().join("conf/token");
    fs::write(&token, "beside the configuration\n").expect("a file");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("a file");
    assert_eq!(check().error, "");
}

// ===== the program =====

/// Who is in a hurry had to wait for the drain timeout, or send SIGKILL.
#[test]
fn a_second_signal_ends_it_at_once() {
    for signals in [["TERM", "TERM"], ["INT", "TERM"]] {
        let (origin, _go) = waiting_origin();
        let mut proxy = Proxy::before(
            &origin,
            &format!("workers = 1\n[listener]\ndrain_timeout = '1h'\n{ROUTE}"),
        );
        let mut idle = proxy.connect();
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        eventually("the request at the origin", || (origin.seen().len() == 1).then_some(()));
        proxy.signal(signals[0]);
        assert_eq!(idle.rest(), b"", "it drains");
        client.stays_silent(Duration::from_millis(200));
        proxy.signal(signals[1]);
        assert_eq!(client.rest(), b"");
        assert_eq!(proxy.end().code(), Some(0));
        let stopped = proxy.line("stopped");
        assert_eq!((&stopped["level"], &stopped["connections_cut"]), (&json!("WARN"), &json!(1)));
        assert_eq!(proxy.told("1"), ["cut by shutdown"]);
    }
}

/// `println!` panics when its output is full.
#[test]
fn an_output_that_is_full_is_no_panic() {
    let directory = directory(&config("[[routes]]\nupstream = 'http://b'\n"));
    fs::write(directory.path().join("c.wasm"), says("x")).expect("a file");
    for arguments in [&["check", "fusebox.toml"][..], &["component", "inspect", "c.wasm"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let done = Command::new(env!("CARGO_BIN_EXE_fusebox"))
            .args(arguments)
            .current_dir(directory.path())
            .env("XDG_CACHE_HOME", directory.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .expect("the program");
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            matches!(done.status.code(), Some(0 | 1)),
            "{arguments:?}: {:?} {error}",
            done.status
        );
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
    }
}

/// Neither size, nor time of change, nor place told the new file from the rejected one.
#[test]
fn a_file_of_the_same_size_and_time_is_noticed() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("old"), FALLBACK, "");
    let new = says("new");
    fs::write(proxy.path("c.wasm"), vec![b'x'; new.len()]).expect("a file");
    proxy.line("Component rejected");
    assert_eq!(proxy.ask(get("/", "1")).text(), "old");
    let touch = |file: &str, like: &str| {
        let (file, like) = (proxy.path(file), proxy.path(like));
        let touched = Command::new("touch").arg("-r").args([like, file]).status().expect("`touch`");
        assert!(touched.success());
    };
    fs::write(proxy.path("time"), "").expect("a file");
    touch("time", "c.wasm");
    fs::write(proxy.path("c.wasm"), &new).expect("a file");
    touch("c.wasm", "time");
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "2")).text(), "new");
}

//! How long a client waits for what another one on its worker does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fusebox_dev::{FrozenThread, Origin, answer, get, handle_if, key, ok, wat_component};
use serde_json::Value;

use crate::http_components::built;
use crate::support::{Proxy, ROUTE};

/// Requests that are sent at once.
const BURST: usize = 3000;

/// So many of another client's requests may be answered before a neighbour's is.
const MOST: usize = 300;

/// What has come and what comes, until nothing does for a moment.
fn drain(client: &mut TcpStream, answers: &mut Vec<u8>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("it is closed"),
            Ok(length) => answers.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn count(answers: &[u8]) -> usize {
    let status = b"HTTP/1.1 404 ";
    answers.windows(status.len()).filter(|window| window == status).count()
}

/// With its worker stopped within a burst, and a neighbour's request sent then, the log tells how
/// many of the burst came first.
#[test]
fn a_client_that_sends_without_end_delays_its_neighbour_by_a_few_hundred_of_its_requests() {
    let origin = Origin::answering([ok("")]);
    let config = "workers = 1\n[[routes]]\npath = '/known'\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, config);
    let mut neighbour = proxy.connect();
    let mut delays = Vec::new();
    for round in 0..100 {
        let mut client = TcpStream::connect(proxy.address()).expect("it listens");
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let path = format!("/burst-{round}");
        let request = format!("GET {path} HTTP/1.1\r\nhost: b\r\n\r\n");
        client.write_all(request.repeat(BURST).as_bytes()).expect("it takes them");
        let worker = FrozenThread::of(proxy.id(), "worker-0");
        let mut answers = Vec::new();
        drain(&mut client, &mut answers);
        let before = count(&answers);
        let id = format!("neighbour-{round}");
        neighbour.send(get("/unknown", &id));
        drop(worker);
        assert_eq!(neighbour.response().status(), 404);
        while count(&answers) < BURST {
            drain(&mut client, &mut answers);
        }
        let is_of_burst = |line: &&Value| line["request"]["path"] == path.as_str();
        let answered = proxy.wait("all requests", |lines| {
            let all = lines.iter().filter(is_of_burst).count() == BURST;
            let end = lines.iter().position(|line| line["request_id"] == id.as_str())?;
            all.then(|| lines[..end].iter().filter(is_of_burst).count())
        });
        // The worker may not have begun yet when it was stopped, or have done it all.
        if (1..BURST).contains(&before) {
            delays.push(answered - before);
        }
        if delays.len() == 4 {
            break;
        }
    }
    assert!(!delays.is_empty(), "the worker was never stopped within a burst");
    assert!(delays.iter().all(|delay| *delay <= MOST), "{delays:?}");
}

/// Requests that come at once, each of which makes a guest loop for 50 to 100 ms.
const LOOPS: usize = 20;

/// So many of these may end before a neighbour's request is answered, which needs its worker three
/// times: for the request, for the upstream's answer, and where another one goes on at once.
const MOST_LOOPS: usize = 4;

/// A neighbour asks as long as guests loop for `policy`. The log tells how many of them were cut
/// off between two of its answers: the most of all.
fn loops_between_answers(guest: &[u8], policy: &str) -> usize {
    let config = format!(
        "workers = 1\n\
         components.c = {{ file = 'c.wasm', probe = false, timeout = '50ms', \
         quarantine_after = 1000, on_error = 'unhandled' }}\n\
         [policies.asks]\n{policy}\n\
         [[routes]]\npath = '/loop'\nupstream = 'ORIGIN'\npolicies = ['asks']\n{ROUTE}"
    );
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let status = if seen.request.target() == "/loop" { 503 } else { 200 };
            connection.wire.send(answer(status, "", ""));
        }
    });
    let proxy = Proxy::with_files(&origin, &[("c.wasm", guest)], &config);
    let mut clients: Vec<_> = (0..LOOPS).map(|_| proxy.connect()).collect();
    let mut neighbour = proxy.connect();
    assert_eq!(neighbour.ask(get("/", "before")).status(), 200);
    {
        let _worker = FrozenThread::of(proxy.id(), "worker-0");
        clients.iter_mut().for_each(|client| client.send(get("/loop", "loops")));
        neighbour.send(get("/", "neighbour"));
    }
    let faulted = "Component faulted: timeout";
    loop {
        assert_eq!(neighbour.response().status(), 200);
        if proxy.lines(faulted).len() == LOOPS {
            break;
        }
        neighbour.send(get("/", "neighbour"));
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 503));
    proxy.wait("all requests", |lines| {
        let is_answer = |line: &Value| line["request_id"] == "neighbour";
        let loops = |lines: &[Value]| lines.iter().filter(|line| line["msg"] == faulted).count();
        let is_all = loops(lines) == LOOPS && lines.iter().any(is_answer);
        is_all.then(|| lines.split(is_answer).map(loops).max())?
    })
}

#[test]
fn guests_that_loop_for_many_at_once_delay_a_neighbour_by_a_few_of_them() {
    let on = "(loop $on (br $on)) unreachable";
    let guest = wat_component(&format!("{} {}", handle_if(on), key(on)));
    for (guest, policy) in [
        (&guest, "kind = 'retry'\nhandle_if = { component = 'c' }"),
        (&guest, "kind = 'bulkhead'\nmax_concurrency = 100\nkey = { component = 'c' }"),
        // It loops at this path.
        (&built("http_hostile.wasm"), "kind = 'fallback'\nrespond = { component = 'c' }"),
    ] {
        // Guests go on while this test and its upstream wait for a processor, so it may take more
        // than one try.
        let mut tries = (0..5).map(|_| loops_between_answers(guest, policy));
        let few = tries.find(|most| (1..=MOST_LOOPS).contains(most));
        assert!(few.is_some(), "more than {MOST_LOOPS} loops, {policy}");
    }
}

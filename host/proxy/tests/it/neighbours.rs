//! How long a client waits for what another one on its worker does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fusebox_dev::{FrozenThread, Origin, get, ok};

use crate::support::Proxy;

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
        let is_of_burst = |line: &&serde_json::Value| line["request"]["path"] == path.as_str();
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

//! The memory of all components together: its bound. And what is given back, by them and by all
//! else.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use fusebox_dev::{
    Message, Origin, Wire, eventually, get, handle_if, is_status, ok, predicate, wat_component,
};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE};

/// With every question it needs 16 MiB more, and traps if it gets none.
fn grows() -> Vec<u8> {
    wat_component(&handle_if(
        "(if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then unreachable))
         (i32.const 0)",
    ))
}

const CONFIG: &str = "workers = 1\nmax_component_memory = '40MiB'\n\
    [components.greedy]\nfile = 'greedy.wasm'\nmemory = '256MiB'\nprobe = false\n\
    quarantine_after = 1\n\
    [components.modest]\nfile = 'modest.wasm'\n\
    [policies.greedy]\nkind = 'retry'\nhandle_if = { component = 'greedy' }\n\
    [policies.modest]\nkind = 'retry'\nhandle_if = { component = 'modest' }\n\
    [[routes]]\npath = '/greedy'\nupstream = 'ORIGIN'\npolicies = ['greedy']\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['modest']\n";

fn held(proxy: &Proxy, component: &str) -> u64 {
    let held = &proxy.state()["components"][component]["memory_bytes"];
    held.as_u64().expect("a number")
}

#[test]
fn a_component_that_wants_all_memory_gets_no_more_than_there_is_for_all_and_gives_it_back() {
    let origin = Origin::answering([ok("fine")]);
    let modest = predicate(&is_status(418));
    let files = [("greedy.wasm", &*grows()), ("modest.wasm", &modest)];
    let proxy = Proxy::with_files(&origin, &files, CONFIG);
    let ask = |path: &str, id: &str| assert_eq!(proxy.ask(get(path, id)).text(), "fine", "{id}");
    let faults = || proxy.lines("Component faulted: total-memory");
    for id in ["1", "2"] {
        ask("/greedy", id);
        ask("/", "modest");
    }
    assert!(held(&proxy, "greedy") > 32 << 20);
    assert_eq!(faults(), [json!(null); 0]);
    ask("/greedy", "3");
    let fault = proxy.line("Component faulted: total-memory");
    assert_eq!((&fault["component"], &fault["request_id"]), (&json!("greedy"), &json!("3")));
    let detail = fault["detail"].as_str().expect("a detail");
    let said = "all components together would hold more than 40MiB of memory: ";
    assert!(detail.starts_with(said), "{detail}");
    assert_eq!(held(&proxy, "greedy"), 0, "the instance is gone");
    let state = proxy.state()["components"]["greedy"]["state"].clone();
    assert_eq!(state, "probation", "it is not to blame");
    // It goes on, and so do the others.
    ask("/greedy", "4");
    ask("/", "modest");
    assert_eq!(faults().len(), 1);

    assert!(held(&proxy, "greedy") > 16 << 20);
    eventually("a fresh instance in its place", || {
        let is_ready = proxy.state()["components"]["greedy"]["instances"] == 1;
        (is_ready && held(&proxy, "greedy") < 1 << 20).then_some(())
    });
    ask("/greedy", "5");
}

/// What the proxy keeps of a burst of uploads, at its height.
const BURST: u64 = 256 << 20;
const UPLOAD: usize = 1 << 20;

/// An origin that answers no upload for as long as somebody holds the door.
fn waiting_origin(door: &Arc<RwLock<()>>) -> Origin {
    let door = door.clone();
    Origin::start(move |connection| {
        while connection.head().is_some() {
            connection.wire.exactly(UPLOAD);
            drop(door.read());
            if connection.wire.try_send(ok("")).is_err() {
                return;
            }
        }
    })
}

#[test]
fn what_a_burst_has_taken_is_given_back_within_half_a_minute() {
    let door = Arc::new(RwLock::new(()));
    let origin = waiting_origin(&door);
    let proxy = Proxy::before(
        &origin,
        "workers = 2\n\
         [policies.retry]\nkind = 'retry'\n\
         [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\nmax_replay_body = '1MiB'\n",
    );
    let begin = || {
        let mut client = proxy.connect();
        client.send(format!("PUT / HTTP/1.1\r\nhost: b\r\ncontent-length: {UPLOAD}\r\n\r\n"));
        client.send(vec![b'x'; UPLOAD]);
        client
    };
    let end = |mut client: Wire| -> Message { client.response() };
    assert_eq!(end(begin()).status(), 200);
    let idle = proxy.private_memory();

    let held = door.write().expect("a door");
    let clients: Vec<Wire> = (0..BURST / UPLOAD as u64).map(|_| begin()).collect();
    eventually("the burst's height", || (proxy.private_memory() > idle + BURST).then_some(()));
    drop(held);
    assert!(clients.into_iter().map(end).all(|answer| answer.status() == 200));
    let over = Instant::now();
    let few = idle + (8 << 20);
    eventually("its memory", || (proxy.private_memory() < few).then_some(()));
    let taken = over.elapsed();
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}

/// Streams at once.
const STREAMS: usize = 300;
const PIECE: usize = 64 << 10;

/// Waits until each of many streams takes less than so many bytes, when its client has read so many
/// pieces of `path`.
fn a_stream_takes_less(bytes: u64, path: &str, pieces: usize) {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.head() {
            connection.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let piece = format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE));
            let count = if seen.request.target() == "/waits" { 4 } else { usize::MAX };
            if (0..count).all(|_| connection.wire.try_send(&piece).is_ok()) {
                connection.wire.rest();
            }
        }
    });
    let proxy = Proxy::before(&origin, &format!("workers = 2\n{ROUTE}"));
    let begin = || {
        let mut client = proxy.connect();
        client.send(get(path, "1"));
        assert_eq!(client.head().expect("a head").status(), 200);
        let mut left = pieces * PIECE;
        while left > 0 {
            left -= client.chunk().len();
        }
        client
    };
    drop(begin());
    let idle = proxy.private_memory();
    let streams: Vec<Wire> = (0..STREAMS).map(|_| begin()).collect();
    proxy.counts(&[("fusebox_connections", STREAMS as f64)]);
    // What is only kept for a moment goes within seconds.
    let taken = || proxy.private_memory().saturating_sub(idle) / STREAMS as u64;
    eventually(&format!("less than {bytes} of {path}"), || (taken() < bytes).then_some(()));
    drop(streams);
}

#[test]
fn a_stream_holds_little_while_it_waits_and_not_much_while_its_client_takes_nothing() {
    a_stream_takes_less(32 << 10, "/waits", 4);
    a_stream_takes_less(128 << 10, "/endless", 0);
}

#[test]
fn an_upload_holds_little_while_it_pauses_though_its_head_and_body_came_in_one_write() {
    let origin = Origin::start(|connection| {
        while connection.head().is_some() {
            connection.wire.rest();
        }
    });
    let proxy = Proxy::before(&origin, &format!("workers = 2\n{ROUTE}"));
    let begin = || {
        let mut client = proxy.connect();
        let head = "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 1000000\r\n\r\n";
        client.send(format!("{head}{}", "x".repeat(PIECE)));
        client
    };
    let idle = proxy.private_memory();
    // The buffers that bodies were read into are used again.
    drop((0..STREAMS).map(|_| begin()).collect::<Vec<_>>());
    proxy.counts(&[("fusebox_connections", 0.0)]);
    let uploads: Vec<Wire> = (0..STREAMS).map(|_| begin()).collect();
    proxy.counts(&[("fusebox_connections", STREAMS as f64)]);
    let taken = || proxy.private_memory().saturating_sub(idle) / STREAMS as u64;
    // Without optimisation; the piece that each has sent would be half as much again.
    eventually("less than 40 KiB", || (taken() < 40 << 10).then_some(()));
    drop(uploads);
}

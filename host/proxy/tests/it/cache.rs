//! The cache over real sockets: what the origin sees of many clients, and what each of these gets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use fusebox_dev::{Message, Origin, Wire, answer, eventually, get};
use serde_json::json;

use crate::support::Proxy;

const CACHE: &str = "[policies.cache]\nkind = 'cache'\n\
                     [[routes]]\nname = 'all'\nupstream = 'ORIGIN'\npolicies = ['cache']\n";
const FRESH: &str = "cache-control: max-age=60\r\n";

/// Status, body and `Cache-Status`.
fn shown(message: &Message) -> String {
    let status = message.header("cache-status").unwrap_or("-").replace("fusebox; ", "");
    format!("{} {} [{status}]", message.status(), message.text())
}

/// A GET of `/` with these fields, each with its line end.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: b.example\r\n{fields}\r\n")
}

#[test]
fn a_kept_response_is_the_same_for_all_and_asks_nobody() {
    let tagged = format!("{FRESH}etag: \"a\"\r\ncontent-type: text/plain\r\nage: 7\r\n");
    let origin = Origin::answering([answer(200, &tagged, "hello")]);
    let proxy = Proxy::before(&origin, &format!("log = {{ level = 'debug' }}\n{CACHE}"));
    assert_eq!(shown(&proxy.ask(get("/", "1"))), "200 hello [fwd=uri-miss; stored]");
    let hit = proxy.ask(get("/", "2"));
    assert_eq!(hit.header("content-length"), Some("5"));
    assert_eq!(hit.header("content-type"), Some("text/plain"));
    let age: u64 = hit.header("age").and_then(|age| age.parse().ok()).expect("an age");
    let left: u64 = shown(&hit).split(['=', ']']).nth(1).and_then(|it| it.parse().ok()).unwrap();
    assert!((7..30).contains(&age) && (52..=53).contains(&(left + age - 7)), "{hit:?}");
    assert!(hit.header("date").is_some(), "when it came is told");
    assert_eq!(hit.header("x-request-id"), Some("2"), "the request's own");
    let known = proxy.ask(with("if-none-match: \"b\", W/\"a\"\r\n"));
    assert_eq!((known.status(), known.header("etag")), (304, Some("\"a\"")));
    assert_eq!(known.header("content-type"), None);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: b.example\r\n\r\n");
    let head = client.head().expect("a response");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
    assert_eq!(client.ask(get("/", "5")).text(), "hello", "the connection goes on");
    assert_eq!(origin.only().header("if-none-match"), None);
    assert_eq!(
        proxy.told_in_detail("2"),
        ["Call started", "Cache: hit", "200: OK"],
        "nothing inside runs"
    );
    proxy.counts(&[
        ("fusebox_cache_requests_total{route=\"all\",result=\"hit\"}", 4.0),
        ("fusebox_cache_requests_total{route=\"all\",result=\"miss\"}", 1.0),
        ("fusebox_cache_requests_total{route=\"all\",result=\"stale\"}", 0.0),
        ("fusebox_cache_entries{policy=\"cache\"}", 1.0),
    ]);
}

#[test]
fn a_thousand_at_once_over_all_workers_make_one_request() {
    const CLIENTS: usize = 1_000;
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            released.lock().unwrap().recv().ok();
            let long = "x".repeat(100_000);
            connection.wire.send(answer(200, FRESH, &long));
        }
    });
    let proxy = Proxy::before(&origin, CACHE);
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(with(""));
    }
    eventually("all of them wait", || {
        let state = proxy.state();
        let all = state["connections"]["taken"] == json!(CLIENTS);
        (all && state["policies"]["cache"]["fills"] == json!(1)).then_some(())
    });
    release.send(()).unwrap();
    let mut collapsed = 0;
    for client in &mut clients {
        let response = client.response();
        assert_eq!((response.status(), response.body.len()), (200, 100_000));
        let status = response.header("cache-status").expect("what the cache did").to_owned();
        collapsed += usize::from(!status.ends_with("stored"));
    }
    assert_eq!((collapsed, origin.seen().len()), (CLIENTS - 1, 1));
    drop(release);
}

#[test]
fn a_body_that_breaks_off_is_never_kept() {
    let whole = answer(200, FRESH, "whole");
    let broken = format!("HTTP/1.1 200 OK\r\n{FRESH}content-length: 9\r\n\r\nhalf");
    let chunked =
        format!("HTTP/1.1 200 OK\r\n{FRESH}transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    for broken in [broken, chunked] {
        let count = AtomicUsize::new(0);
        let whole = whole.clone();
        let origin = Origin::start(move |connection| {
            while connection.request().is_some() {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    connection.wire.send(&broken);
                    return;
                }
                connection.wire.send(&whole);
            }
        });
        let proxy = Proxy::before(&origin, CACHE);
        let mut client = proxy.connect();
        client.send(with(""));
        let sent = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(sent.contains("half") && !sent.contains("\r\n0\r\n"), "{sent}");
        assert_eq!(shown(&proxy.ask(with(""))), "200 whole [fwd=uri-miss; stored]");
        proxy.counts(&[("fusebox_cache_fills_broken_total{route=\"all\",policy=\"cache\"}", 1.0)]);
    }
}

#[test]
fn a_fill_goes_on_when_its_client_has_left_and_ends_before_the_process() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            let head = format!("HTTP/1.1 200 OK\r\n{FRESH}content-length: 4\r\n\r\nab");
            connection.wire.send(head);
            released.lock().unwrap().recv().ok();
            connection.wire.send("cd");
        }
    });
    let mut proxy = Proxy::before(&origin, CACHE);
    let mut leaves = proxy.connect();
    leaves.send(get("/", "leaves"));
    assert_eq!(leaves.head().expect("a head").status(), 200);
    drop(leaves);
    proxy.story("leaves");
    release.send(()).unwrap();
    let second = proxy.ask(with(""));
    assert_eq!((second.text(), origin.seen().len()), ("abcd", 1));
    // A shutdown waits for it as for a call.
    let mut leaves = proxy.connect();
    leaves.send(get("/other", "leaves-too"));
    assert_eq!(leaves.head().expect("a head").status(), 200);
    drop(leaves);
    proxy.story("leaves-too");
    proxy.signal("TERM");
    proxy.line("draining");
    release.send(()).unwrap();
    assert!(proxy.end().success());
}

#[test]
fn what_is_stale_stands_for_an_upstream_that_is_down_and_is_validated_when_it_is_back() {
    // A kept connection that died would be no failure: the attempt would go once more.
    let kept = "connection: close\r\ncache-control: max-age=0\r\netag: \"a\"\r\n";
    let origin = Origin::answering([
        answer(200, kept, "kept"),
        String::new(),
        answer(503, "", "down"),
        "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncache-control: max-age=60\r\n\r\n".to_owned(),
    ]);
    let config = CACHE.replace("'cache'\n[[", "'cache'\nstale_if_error = '1h'\n[[");
    let proxy = Proxy::before(&origin, &config);
    assert_eq!(shown(&proxy.ask(get("/", "1"))), "200 kept [fwd=uri-miss; stored]");
    let stale = proxy.ask(get("/", "2"));
    assert_eq!(shown(&stale), "200 kept [fwd=stale; detail=stale-if-error]");
    assert!(proxy.told("2").contains(&"Stale response served".to_owned()));
    let stale = proxy.ask(get("/", "3"));
    assert_eq!(shown(&stale), "200 kept [fwd=stale; fwd-status=503; detail=stale-if-error]");
    let valid = proxy.ask(with("if-none-match: \"z\"\r\n"));
    assert_eq!(shown(&valid), "200 kept [fwd=stale; fwd-status=304; stored]");
    assert!(shown(&proxy.ask(with(""))).starts_with("200 kept [hit;"));
    let condition = |request: &Message| request.header("if-none-match").map(str::to_owned);
    let conditions: Vec<_> = origin.seen().iter().map(|seen| condition(&seen.request)).collect();
    let own = Some("\"a\"".to_owned());
    assert_eq!(conditions, [None, own.clone(), own.clone(), own]);
    proxy.counts(&[(
        "fusebox_cache_stale_served_total{route=\"all\",policy=\"cache\",\
         reason=\"stale-if-error\"}",
        2.0,
    )]);
}

#[test]
fn what_is_stale_is_used_while_one_request_behind_the_call_validates_it() {
    let kept = "cache-control: max-age=0, stale-while-revalidate=600\r\netag: \"a\"\r\n";
    let fresh = format!("{FRESH}etag: \"b\"\r\n");
    let other = "[policies.other]\nkind = 'fallback'\nrespond = { upstream = 'b2' }\n\
                 [upstreams.b2]\nendpoints = ['ORIGIN']\n";
    let with_other = CACHE.replace("[[routes]]", &format!("{other}[[routes]]"));
    let with_other = with_other.replace("['cache']", "['cache', 'other']");
    for config in [CACHE, &with_other] {
        let origin = Origin::answering([answer(200, kept, "old"), answer(200, &fresh, "new")]);
        let proxy = Proxy::before(&origin, config);
        proxy.ask(with(""));
        let stale = proxy.ask(get("/", "stale"));
        assert_eq!((stale.status(), stale.text()), (200, "old"));
        let status = stale.header("cache-status").unwrap_or_default();
        assert!(status.ends_with("detail=stale-while-revalidate"), "{status}");
        eventually("a fresh one", || {
            let hit = proxy.ask(with(""));
            (hit.text() == "new").then_some(())
        });
        let seen = origin.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[1].request.header("if-none-match"), Some("\"a\""));
        assert_eq!(seen[1].request.header("x-request-id"), Some("stale"), "whose it is");
    }
}

#[test]
fn an_operator_can_purge_it() {
    let origin = Origin::answering([answer(200, FRESH, "old"), answer(200, FRESH, "new")]);
    let proxy = Proxy::before(&origin, CACHE);
    proxy.ask(with(""));
    let state = proxy.state();
    let cache = &state["policies"]["cache"];
    assert_eq!(json!([cache["kind"], cache["entries"], cache["fills"]]), json!(["cache", 1, 0]));
    assert!(cache["bytes"].as_u64().is_some_and(|bytes| (300..3_000).contains(&bytes)), "{cache}");
    let token = "authorization: Bearer open sesame\r\n";
    assert_eq!(proxy.admin_with("POST /policies/cache/purge", token).status(), 200);
    assert_eq!(proxy.line("Cache purged")["entries"], 1);
    assert_eq!(shown(&proxy.ask(with(""))), "200 new [fwd=uri-miss; stored]");
}

#[test]
fn what_is_longer_than_an_entry_is_sent_on_in_constant_memory() {
    const LENGTH: usize = 256 << 20;
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            let head = format!("HTTP/1.1 200 OK\r\n{FRESH}content-length: {LENGTH}\r\n\r\n");
            connection.wire.send(head);
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..LENGTH >> 20 {
                if connection.wire.try_send(&piece).is_err() {
                    return;
                }
            }
        }
    });
    let proxy = Proxy::before(&origin, CACHE);
    let before = proxy.peak_memory();
    let mut client = proxy.connect();
    client.send(with(""));
    let head = client.head().expect("a head");
    assert_eq!(head.header("cache-status"), Some("fusebox; fwd=uri-miss"));
    for _ in 0..LENGTH >> 20 {
        client.exactly(1 << 20);
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "{grown}");
}

#[test]
fn many_clients_of_many_resources_get_the_right_ones() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let target = seen.request.target().to_owned();
            let vary = "cache-control: max-age=1\r\nvary: accept\r\n";
            let accept = seen.request.header("accept").unwrap_or("-").to_owned();
            connection.wire.send(answer(200, vary, &format!("{target} {accept}")));
        }
    });
    let config =
        CACHE.replace("'cache'\n[[", "'cache'\nmax_size = '64KiB'\nmax_entry = '4KiB'\n[[");
    let proxy = Proxy::before(&origin, &config);
    let start = Arc::new(Barrier::new(8));
    thread::scope(|scope| {
        for client in 0..8_usize {
            let (proxy, start) = (&proxy, start.clone());
            scope.spawn(move || {
                let mut wire = proxy.connect();
                start.wait();
                for turn in 0..200_usize {
                    let (path, accept) = ((turn * 7 + client) % 50, (turn + client) % 3);
                    let response = wire.ask(format!(
                        "GET /{path} HTTP/1.1\r\nhost: b.example\r\naccept: {accept}\r\n\r\n"
                    ));
                    assert_eq!(response.text(), format!("/{path} {accept}"));
                }
            });
        }
    });
    let bytes = proxy.state()["policies"]["cache"]["bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes <= 64 << 10), "{bytes:?}");
    assert!(origin.seen().len() < 1_600);
}

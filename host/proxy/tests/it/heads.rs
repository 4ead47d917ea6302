//! What a client may say in a request head: paths that mean different things to different programs,
//! who it says it is, loops, expectations, and texts without end.

use std::sync::{Arc, OnceLock};

use fusebox_dev::{Message, Origin, Wire, answer, get, ok};

use crate::support::{Proxy, ROUTE};

/// Two routes, one of which has a prefix.
const PREFIX: &str = "[[routes]]\nname = 'public'\npath = '/public'\nupstream = 'ORIGIN'\n\
     [[routes]]\nname = 'rest'\nupstream = 'ORIGIN'\n";

/// Targets with a dot segment, raw or encoded, as some program behind may read it.
const DOTTED: [&str; 20] = [
    "/public/..",
    "/public/../admin",
    "/public/./x",
    "/public/%2e%2e/admin",
    "/public/%2E%2e/admin",
    "/public/.%2e/admin",
    "/public/%2e",
    "/public/..%2fadmin",
    "/public%2F..%2Fadmin",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public\\..\\admin",
    "/public/..;x=1/admin",
    "/public/..;/admin",
    "/public/..%3bx/admin",
    "/public/.;x",
    "/../admin",
    "/..",
    "http://b.example/public/../admin",
    "/public/x;y/../../admin?q=1",
];

/// Targets that have dots, and no dot segment.
const UNDOTTED: [&str; 9] = [
    "/public/...",
    "/public/a..b/.hidden",
    "/public/..a",
    "/public/x?to=../admin",
    "/public/a;../b",
    "/public/%2e%2e%2e",
    "/public/100%",
    "/public/%zz..",
    "/.well-known/x.txt",
];

#[track_caller]
fn is_refused(proxy: &Proxy, answer: &Message, status: u16, title: &str, reason: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let said: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(said["title"], title);
    let id = answer.header("x-request-id").expect("an id");
    let line = proxy.story(id)[0].clone();
    assert_eq!(
        (&line["msg"], &line["reason"]),
        (&format!("Request refused: {title}").into(), &reason.into(),)
    );
}

#[test]
fn dot_segments_are_refused_where_a_route_has_a_prefix() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, PREFIX);
    for target in DOTTED {
        let answer = proxy.ask(get(target, &format!("x{}", target.len())));
        assert_eq!(answer.status(), 400, "{target}");
    }
    assert_eq!(origin.seen().len(), 0);
    let answer = proxy.ask(get("/public/../admin", "dotted"));
    is_refused(&proxy, &answer, 400, "path with dot segments", "path");
    for target in UNDOTTED {
        let answer = proxy.ask(get(target, "1"));
        assert_eq!(answer.status(), 200, "{target}");
    }
    let targets: Vec<_> =
        origin.seen().iter().map(|seen| seen.request.target().to_owned()).collect();
    assert_eq!(targets, UNDOTTED, "nothing is rewritten");
    let refused = r#"fusebox_requests_refused_total{route="public",reason="path"}"#;
    let above = r#"fusebox_requests_refused_total{route="rest",reason="path"}"#;
    proxy.counts(&[(refused, 19.0), (above, 2.0)]);
}

#[test]
fn dot_segments_are_refused_below_a_base_path() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, "[[routes]]\nupstream = 'ORIGIN/base'\n");
    assert_eq!(proxy.ask(get("/../secret", "1")).status(), 400);
    assert_eq!(proxy.ask(get("/x", "2")).status(), 200);
    assert_eq!(origin.only().target(), "/base/x");
}

#[test]
fn dot_segments_go_on_where_they_change_nothing_or_are_wanted() {
    let origin = Origin::answering([ok("")]);
    for config in [ROUTE.to_owned(), format!("listener = {{ paths = 'as-is' }}\n{PREFIX}")] {
        let proxy = Proxy::before(&origin, &config);
        let before = origin.seen().len();
        let targets = DOTTED.into_iter().filter(|target| target.starts_with('/'));
        for (number, target) in targets.enumerate() {
            assert_eq!(proxy.ask(get(target, "1")).status(), 200, "{target}");
            assert_eq!(origin.seen()[before + number].request.target(), target);
        }
    }
}

/// A request that says it comes from elsewhere.
const CLAIMS: &str = "GET / HTTP/1.1\r\nHost: b.example\r\nX-Request-Id: ID\r\n\
    X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2, 10.1.1.1\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\nX-Forwarded-Port: 443\r\n\
    X-Forwarded-Client-Cert: Subject=root\r\nX_Forwarded_For: 198.51.100.3\r\n\
    Forwarded: for=198.51.100.1;proto=https\r\nX-Real-IP: 198.51.100.4\r\n\
    X-Original-URL: /kept\r\n\r\n";

/// What of that the origin got.
fn forwarded(request: &Message) -> Vec<String> {
    let mut said: Vec<String> = request
        .headers
        .iter()
        .filter(|(name, _)| ["forward", "real", "original"].iter().any(|word| name.contains(word)))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    said.sort();
    said
}

#[test]
fn what_a_client_says_of_its_way_is_replaced_unless_it_is_trusted() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut client = proxy.connect();
    for id in ["1", "2"] {
        assert_eq!(client.ask(CLAIMS.replace("ID", id)).status(), 200);
    }
    for seen in origin.seen() {
        assert_eq!(
            forwarded(&seen.request),
            [
                "forwarded: for=127.0.0.1;host=b.example;proto=http",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: b.example",
                "x-forwarded-proto: http",
                "x-original-url: /kept",
                "x-real-ip: 127.0.0.1",
            ]
        );
    }
    let story = proxy.story("1");
    assert_eq!(story[0]["msg"], "Forwarded headers replaced: the client is not trusted");
    assert_eq!((&story[0]["ip"], &story[0]["connections"]), (&"127.0.0.1".into(), &1.into()));
    assert_eq!(story[1]["request"]["ip"], "127.0.0.1");
    assert_eq!(proxy.told("2"), ["200: OK"], "a client is told of once");
    // Not a line for each connection of a client that opens many.
    for id in ["3", "4", "5"] {
        proxy.ask(CLAIMS.replace("ID", id));
        assert_eq!(proxy.told(id), ["200: OK"]);
    }
    let replaced = r#"fusebox_forwarded_headers_replaced_total{route="/"}"#;
    proxy.counts(&[(replaced, 4.0)]);
}

#[test]
fn a_trusted_client_is_believed_and_the_address_is_the_last_untrusted_one() {
    let origin = Origin::answering([ok("")]);
    let trusted = "listener = { trusted = ['127.0.0.0/8', '10.1.0.0/16', '::1'] }\n";
    let proxy = Proxy::before(&origin, &format!("{trusted}{ROUTE}"));
    proxy.ask(CLAIMS.replace("ID", "1"));
    assert_eq!(
        forwarded(&origin.only()),
        [
            "forwarded: for=198.51.100.1;proto=https, for=127.0.0.1;host=b.example;proto=http",
            "x-forwarded-client-cert: Subject=root",
            "x-forwarded-for: 198.51.100.1, 198.51.100.2, 10.1.1.1, 127.0.0.1",
            "x-forwarded-host: bank.example",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-original-url: /kept",
            "x-real-ip: 198.51.100.4",
        ],
        "`x_forwarded_for` would be another of its name to some"
    );
    let story = proxy.story("1");
    assert_eq!((story.len(), &story[0]["request"]["ip"]), (1, &"198.51.100.2".into()));
    for (id, said, ip) in [
        ("none", "", "127.0.0.1"),
        ("all", "x-forwarded-for: 10.1.9.9, 10.1.1.1\r\n", "10.1.9.9"),
        ("port", "x-forwarded-for: 198.51.100.7:4711\r\n", "198.51.100.7"),
        ("six", "x-forwarded-for: [2001:db8::1]:80, ::1\r\n", "2001:db8::1"),
        ("odd", "x-forwarded-for: 198.51.100.7, unknown, 10.1.1.1\r\n", "10.1.1.1"),
        ("standard", "forwarded: for=\"[2001:db8::2]:80\", For=10.1.1.1\r\n", "2001:db8::2"),
        // What a trusted proxy puts in quotes is a client's word.
        ("quoted", "forwarded: for=198.51.100.7;host=\"b, for=203.0.113.9\"\r\n", "198.51.100.7"),
        ("pair", "forwarded: for=198.51.100.7;host=\"b;for=203.0.113.9\"\r\n", "198.51.100.7"),
        ("begun", "forwarded: for=\", for=198.51.100.7;host=\"b\"\r\n", "198.51.100.7"),
        ("hidden", "forwarded: for=198.51.100.7, for=_gate, for=10.1.1.1\r\n", "10.1.1.1"),
        ("hidden-port", "forwarded: for=\"198.51.100.7:_1\"\r\n", "198.51.100.7"),
        ("several", "forwarded: for=203.0.113.9;for=198.51.100.7\r\n", "127.0.0.1"),
        ("lines", "forwarded: for=198.51.100.7\r\nforwarded: for=10.1.1.1\r\n", "198.51.100.7"),
        // The proxy in front adds to one of them, and leaves the other as a client wrote it.
        (
            "mixed",
            "forwarded: for=203.0.113.9\r\nx-forwarded-for: 198.51.100.7\r\n",
            "198.51.100.7",
        ),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n{said}\r\n");
        assert_eq!(proxy.ask(request).status(), 200);
        assert_eq!(proxy.story(id)[0]["request"]["ip"], ip, "{id}");
    }
}

#[test]
fn the_standard_header_is_told_and_believed_as_it_is_configured() {
    let origin = Origin::answering([ok("")]);
    let own = "forwarded: for=127.0.0.1;host=b.example;proto=http";
    let [told_x, told_host, told_proto] =
        ["x-forwarded-for: 127.0.0.1", "x-forwarded-host: b.example", "x-forwarded-proto: http"];
    let plain = "GET / HTTP/1.1\r\nhost: b.example\r\nx-request-id: ID\r\n\r\n";
    let believed =
        "forwarded: for=198.51.100.1;proto=https, for=127.0.0.1;host=b.example;proto=http";
    for (style, trusted, request, told, ip) in [
        ("x-forwarded", "", plain, &[told_x, told_host, told_proto][..], "127.0.0.1"),
        ("both", "", plain, &[own, told_x, told_host, told_proto], "127.0.0.1"),
        ("standard", "", plain, &[own], "127.0.0.1"),
        (
            "both",
            "",
            CLAIMS,
            &[own, told_x, told_host, told_proto, "x-original-url: /kept", "x-real-ip: 127.0.0.1"],
            "127.0.0.1",
        ),
        ("standard", "", CLAIMS, &[own, "x-original-url: /kept"], "127.0.0.1"),
        (
            "both",
            "127.0.0.1",
            CLAIMS,
            &[
                believed,
                "x-forwarded-client-cert: Subject=root",
                "x-forwarded-for: 198.51.100.1, 198.51.100.2, 10.1.1.1, 127.0.0.1",
                "x-forwarded-host: bank.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-original-url: /kept",
                "x-real-ip: 198.51.100.4",
            ],
            "10.1.1.1",
        ),
        ("standard", "127.0.0.1", CLAIMS, &[believed, "x-original-url: /kept"], "198.51.100.1"),
    ] {
        let config =
            format!("listener = {{ forwarded = '{style}', trusted = [{trusted:?}] }}\n{ROUTE}");
        let proxy = Proxy::before(&origin, &config.replace("[\"\"]", "[]"));
        let mut client = proxy.connect();
        for id in ["1", "2"] {
            let before = origin.seen().len();
            assert_eq!(client.ask(request.replace("ID", id)).status(), 200);
            assert_eq!(forwarded(&origin.seen()[before].request), told, "{style} {trusted}");
            let story = proxy.story(id);
            assert_eq!(story.last().expect("a line")["request"]["ip"], ip);
        }
    }
}

#[test]
fn what_quotes_a_client_leaves_open_hide_nothing_that_is_added() {
    let origin = Origin::answering([ok("")]);
    let proxy =
        Proxy::before(&origin, &format!("listener = {{ trusted = ['127.0.0.1'] }}\n{ROUTE}"));
    for odd in ["for=\"", "for=198.51.100.7;host=\"\\\"", "\\"] {
        let before = origin.seen().len();
        let request = format!("GET / HTTP/1.1\r\nhost: b:80\r\nforwarded: {odd}\r\n\r\n");
        assert_eq!(proxy.ask(request).status(), 200);
        let told = origin.seen()[before].request.header("forwarded").map(str::to_owned);
        assert_eq!(told.as_deref(), Some("for=127.0.0.1;host=\"b:80\";proto=http"), "{odd}");
    }
}

/// A request as it came, to be sent on.
fn repeated(message: &Message) -> String {
    let fields = message.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("{}\r\n{}\r\n", message.start, fields.collect::<String>())
}

#[test]
fn a_loop_ends_where_it_closes() {
    let there = Arc::new(OnceLock::new());
    let proxy = there.clone();
    // An upstream that sends everything back to fusebox, but not for ever.
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            let answer = if seen.number < 50 {
                let mut back =
                    Wire::connect(*proxy.get().expect("an address")).expect("it listens");
                let answered = back.ask(repeated(&seen.request));
                answer(answered.status(), "", answered.text())
            } else {
                ok("at last")
            };
            connection.wire.send(answer);
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    there.set(proxy.address()).expect("an address once");
    let answered = proxy.ask(get("/", "1"));
    assert_eq!((answered.status(), origin.seen().len()), (508, 1));
    let via = origin.only().header("via").expect("Via").to_owned();
    assert!(via.starts_with("1.1 fusebox-") && via.len() == "1.1 fusebox-".len() + 16, "{via}");
    proxy.wait("the end of the loop", |lines| {
        lines.iter().find(|line| line["msg"] == "Request refused: request loop").cloned()
    });
    // Another fusebox on the way is no loop.
    let other = "GET / HTTP/1.1\r\nhost: b\r\nvia: 1.1 fusebox-0123456789abcdef\r\n\r\n";
    let before = origin.seen().len();
    proxy.ask(other);
    assert!(origin.seen().len() > before);
}

#[test]
fn an_expectation_that_nobody_knows_is_a_417() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    for (number, expectation) in ["200-ok", "100-continue, x=1", ""].iter().enumerate() {
        let request = format!("GET / HTTP/1.1\r\nhost: b\r\nexpect: {expectation}\r\n\r\n");
        let answer = proxy.ask(request);
        is_refused(&proxy, &answer, 417, "expectation not supported", "expectation");
        assert_eq!(origin.seen().len(), 0, "{number}");
    }
    let known = "GET / HTTP/1.1\r\nhost: b\r\nexpect: 100-Continue\r\n\r\n";
    assert_eq!(proxy.ask(known).status(), 200);
    assert_eq!(origin.only().header("expect"), None);
}

#[test]
fn a_length_that_is_said_twice_is_sent_once() {
    for (said, sent) in [("5, 5", "5"), ("5,5,5", "5"), ("005", "5")] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n\r\nhello");
        let origin = Origin::answering([answer]);
        let proxy = Proxy::before(&origin, ROUTE);
        let answer = proxy.ask(get("/", "1"));
        assert_eq!((answer.header("content-length"), answer.text()), (Some(sent), "hello"));
    }
}

#[test]
fn a_method_without_end_does_not_fill_the_log() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let method = "M".repeat(60_000);
    let request = format!("{method} / HTTP/1.1\r\nhost: b\r\nx-request-id: long\r\n\r\n");
    assert_eq!(proxy.ask(request).status(), 200);
    let line = proxy.story("long")[0].clone();
    let logged = line["request"]["method"].as_str().expect("a text");
    assert_eq!((logged.chars().count(), logged.chars().last()), (4097, Some('…')));
}

#[test]
fn the_final_dot_of_a_host_is_no_part_of_its_name() {
    let origin = Origin::answering([ok("")]);
    let config = "[[routes]]\nname = 'b'\nhost = 'b.example'\nupstream = 'ORIGIN'\n\
                  [[routes]]\nname = 'c'\nhost = 'c.example.'\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, config);
    for (host, route) in [
        ("b.example.", "b"),
        ("B.example.:80", "b"),
        ("b.example", "b"),
        ("c.example", "c"),
        ("c.example.", "c"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-request-id: {host}\r\n\r\n");
        assert_eq!(proxy.ask(request).status(), 200, "{host}");
        let line = proxy.story(host)[0].clone();
        assert_eq!((&line["route"], &line["request"]["host"]), (&route.into(), &host.into()));
    }
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nhost: b.example..\r\n\r\n").status(), 404);
}

//! `fusebox check`: what it says of a configuration that is right.

use std::fs;
use std::path::Path;

use fusebox_dev::{Authority, Ran};

use crate::cli::{config, directory};
use crate::support::{fusebox, fusebox_elsewhere, fusebox_noting, verdict};

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let directory = directory(&config(
        "[policies.retry]\nkind = 'retry'\nmax_retries = -1\nbudget = 'none'\n\
         [policies.unused]\nkind = 'timeout'\n\
         limit = '1s'\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['retry']\n\
         [[routes]]\npath = '/1'\nupstream = 'http://b'\ngrpc = true\n\
         [[routes]]\npath = '/2'\nupstream = { url = 'http://b', protocol = 'http1' }\n\
         grpc = true\n\
         [[routes]]\npath = '/3'\nupstream = { url = 'http://b', protocol = 'http2' }\n\
         grpc = true\n",
    ));
    let Ran { code, out, error } = fusebox(directory.path(), &["check"]);
    assert_eq!((code, verdict(&out)), (Some(0), "fusebox.toml: ok"));
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "warning: fusebox.toml:5: policies.retry.max_retries: unlimited retries without \
             `max_duration` or a `budget`; 2 are usual",
            "warning: fusebox.toml:6: policies.retry.budget: without one, nothing keeps retries \
             from multiplying an overload; leave the key out for the upstream's own",
            "warning: fusebox.toml:7: policies.unused: no route uses it",
            "warning: fusebox.toml:16: routes[1].grpc: its upstream is asked over HTTP/1.1, which \
             servers of gRPC do not speak; say `protocol = \"http2\"`, or \"http1\" for a proxy \
             that does",
        ]
    );
}

/// A route with policies that fit, and two of one that has them the wrong way round.
const TWO_ORDERS: &str = "[policies.retry]\nkind = 'retry'\ndelay = '100ms'\nretry_after = false\n\
    [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 5\n\
    [policies.attempt]\nkind = 'timeout'\nlimit = '1s'\n\
    [policies.answer]\nkind = 'fallback'\nrespond = { status = 200, body = 'no' }\n\
    [[routes]]\npath = '/good'\nupstream = 'http://b'\n\
    policies = ['answer', 'retry', 'breaker', 'attempt']\n\
    [[routes]]\npath = '/bad'\nupstream = 'http://b'\npolicies = ['retry', 'answer']\n\
    [[routes]]\npath = '/worse'\nupstream = 'http://b'\npolicies = ['retry', 'answer', 'attempt']\n\
    [[routes]]\npath = '/plain'\nupstream = 'http://b'\n\
    [upstreams.spare]\nendpoints = ['http://c']\npolicies = ['attempt']\n\
    [policies.other]\nkind = 'fallback'\nrespond = { upstream = 'spare' }\n\
    [[routes]]\npath = '/other'\nupstream = 'http://b'\npolicies = ['other']\n";

#[test]
fn check_says_what_each_route_comes_to_and_what_in_it_is_hardly_meant() {
    let directory = directory(&config(TWO_ORDERS));
    let Ran { code, out, error } = fusebox(directory.path(), &["check"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "route /good: at most 3 requests for one, 27s to the response head; \
             64KiB of the request body kept",
            "route /bad: at most 3 requests for one, 15m 15s 200ms to the response head; \
             64KiB of the request body kept",
            "route /worse: at most 3 requests for one, 3s 200ms to the response head; \
             64KiB of the request body kept",
            "route /plain: 1 request for one, 5m 5s to the response head; no body is kept",
            "route /other: at most 2 requests for one, 5m 6s to the response head; \
             64KiB of the request body kept",
            "fusebox.toml: ok",
        ]
    );
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        ["warning: fusebox.toml:3: policies.retry.handle_if: it never retries: `answer` \
          inside it answers 429, 500, 502-599, dns, connect, tls, connection-lost, protocol, \
          timeout by itself; put it outside (2 routes, the first /bad)"]
    );
}

#[test]
fn check_explains_a_route() {
    let directory = directory(&config(TWO_ORDERS));
    let Ran { code, out, .. } = fusebox(directory.path(), &["check", "--explain", "/good"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "route /good\n\
         \x20 policy            requests   time\n\
         \x20 answer                   3    27s  200 in place of 429, 500, 502-599, any failure; \
         of a write, too, that may have been carried out\n\
         \x20 └ retry                  3    27s  2 retries of 429, 500, 502-599, dns, connect, \
         tls, connection-lost, protocol, timeout, retries-exceeded, after 100ms\n\
         \x20   └ breaker              1     1s  opens at 5 failures in a row, for 1m\n\
         \x20     └ attempt            1     1s  up to 1s to the response head\n\
         \x20       └ http://b         1  5m 5s  up to 5s to connect, 5m to the response head\n\
         \x20 at most, for one request of a client; 64KiB of the request body kept\n\
         fusebox.toml: ok\n"
    );
    let Ran { code, error, .. } = fusebox(directory.path(), &["check", "--explain", "/goods"]);
    assert_eq!(code, Some(1));
    let expected = "no route `/goods`, expected one of /good, /bad, /worse, /plain, /other";
    assert!(error.ends_with(&format!("fusebox: {expected}\n")), "{error}");
}

/// Configurations of one route, and what is hardly meant about each: every kind of warning.
const HARDLY_MEANT: &[(&str, &str)] = &[
    (
        "[policies.retry]\nkind = 'retry'\n[policies.again]\nkind = 'retry'\n\
         policies = ['again', 'retry']",
        "5: policies.again.max_retries: multiplies what `retry` inside repeats: up to 9 requests \
         for one; leave it to one of them",
    ),
    (
        "[policies.retry]\nkind = 'retry'\nmax_retries = 5\n\
         [policies.hedge]\nkind = 'hedge'\ndelay = '1s'\npolicies = ['retry', 'hedge']",
        "5: policies.retry.max_retries: multiplies what `hedge` inside repeats: up to 12 requests \
         for one; leave it to one of them",
    ),
    (
        "[policies.retry]\nkind = 'retry'\nmax_retries = 20\npolicies = ['retry']",
        "5: policies.retry.max_retries: up to 21 requests for one; 2 retries are usual",
    ),
    (
        "[policies.retry]\nkind = 'retry'\nretry_retried = true\npolicies = ['retry']",
        "5: policies.retry.retry_retried: layers of proxies then multiply: three that retry make \
         27 requests of one; leave it false",
    ),
    (
        "[policies.all]\nkind = 'timeout'\nlimit = '1s'\n\
         [policies.attempt]\nkind = 'timeout'\nlimit = '2s'\npolicies = ['all', 'attempt']",
        "8: policies.attempt.limit: never passes: `all` around it ends the call after 1s; give it \
         a shorter limit, or leave it out",
    ),
    (
        "[policies.all]\nkind = 'timeout'\nlimit = '1s'\n\
         [policies.retry]\nkind = 'retry'\ndelay = '2s'\npolicies = ['all', 'retry']",
        "8: policies.retry.delay: 2s are never over: `all` around it ends the call after 1s; make \
         it much shorter than that",
    ),
    (
        "[policies.retry]\nkind = 'retry'\nmethods = ['GET', 'POST']\npolicies = ['retry']",
        "5: policies.retry.methods: has some that may change something each time they are \
         repeated; without them, those that carry an `Idempotency-Key` are retried",
    ),
    (
        "[policies.hedge]\nkind = 'hedge'\ndelay = '1s'\nmethods = ['*']\n\
         policies = ['hedge']",
        "6: policies.hedge.methods: has some that may change something each time they are carried \
         out, here twice at the same time; without them, those that carry an `Idempotency-Key` \
         are hedged",
    ),
    (
        "[policies.retry]\nkind = 'retry'\nhandle_if = { status = ['503'], failure = [] }\n\
         [policies.answer]\nkind = 'fallback'\nrespond = { status = 200 }\n\
         policies = ['retry', 'answer']",
        "5: policies.retry.handle_if: it never retries: `answer` inside it answers 503 by itself; \
         put it outside",
    ),
    (
        "[policies.answer]\nkind = 'fallback'\nrespond = { status = 200 }\n\
         handle_if = { status = [], failure = ['circuit-open'] }\npolicies = ['answer']",
        "6: policies.answer.handle_if: it never answers: circuit-open can't come from inside it; \
         leave the key out for the default",
    ),
    (
        "[policies.breaker]\nkind = 'circuit-breaker'\n\
         handle_if = { status = [], failure = [] }\npolicies = ['breaker']",
        "5: policies.breaker.handle_if: nothing can open it: it takes nothing; leave the key out \
         for the default",
    ),
    (
        "[policies.breaker]\nkind = 'circuit-breaker'\n\
         handle_if = { status = ['503'], failure = ['connect'] }\npolicies = ['breaker']",
        "5: policies.breaker.handle_if: counts dns, tls, connection-lost, protocol, timeout as a \
         success, which closes a breaker however ill its upstream is; add it to `failure`",
    ),
    (
        "[policies.all]\nkind = 'timeout'\nlimit = '1s'\n\
         [policies.breaker]\nkind = 'circuit-breaker'\npolicies = ['all', 'breaker']",
        "6: policies.breaker.slow_call: an upstream that hangs never counts: `all` outside cuts it \
         off after 1s, which says nothing to those inside; put a timeout inside, or set \
         `slow_call`",
    ),
    (
        "[policies.places]\nkind = 'bulkhead'\nmax_concurrency = 5\n\
         [policies.retry]\nkind = 'retry'\npolicies = ['places', 'retry']",
        "4: policies.places.kind: a call keeps its place while `retry` inside waits and asks \
         again; put it inside `retry`, so that attempts take places",
    ),
    (
        "[policies.answer]\nkind = 'fallback'\nrespond = { status = 200 }\n\
         policies = ['answer']\nmethods = ['GET', 'POST']",
        "3: policies.answer.handle_if: answers POST that the upstream may have carried out before \
         it failed, and whose client never hears of that; add `method = [\"GET\", \"HEAD\"]` to it",
    ),
    (
        "[listener]\nmin_rate = 0\n[policies.places]\nkind = 'bulkhead'\n\
         max_concurrency = 5\npolicies = ['places']",
        "4: listener.min_rate: a client that sends a byte now and then keeps `places` waiting for \
         ever for its body; set it, or `request_timeout`",
    ),
];

#[test]
fn whatever_is_hardly_meant_is_told_with_its_place_and_what_would_be_better() {
    for (text, expected) in HARDLY_MEANT {
        let (tables, route) = text.split_once("\npolicies = ").expect("policies of a route");
        let route = format!("[[routes]]\nupstream = 'http://b'\npolicies = {route}\n");
        let directory = directory(&config(&format!("{tables}\n{route}")));
        let Ran { code, error, .. } = fusebox(directory.path(), &["check"]);
        assert_eq!(code, Some(0), "{error}");
        let without_route = |line: &str| {
            ["/", "GET,POST /"]
                .iter()
                .fold(line.to_owned(), |line, route| line.replace(&format!(" (route {route})"), ""))
        };
        let told: Vec<_> = error.lines().map(without_route).collect();
        assert_eq!(told, [format!("warning: fusebox.toml:{expected}")], "{text}");
    }
}

/// As the blog post has it: each of its handlers looks at responses alone.
#[test]
fn the_post_is_told_of_both_its_faults_before_a_bad_day_shows_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let example = "examples/configs/composition-post.toml";
    let Ran { code, error, .. } = fusebox(&root, &["check", example]);
    assert_eq!(code, Some(0), "{error}");
    let text = fs::read_to_string(root.join(example)).expect("the example");
    // Of the conditions, one a policy, in the order of the file: fallback, retry, breaker.
    let conditions = text.lines().enumerate().filter(|(_, line)| line.starts_with("handle_if"));
    let [fallback, _, breaker] = conditions.map(|(at, _)| at + 1).collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            format!(
                "warning: {example}:{fallback}: policies.fallback.handle_if: it never answers: \
                 `retry` inside it makes `retries-exceeded` of 503 where it may repeat; add that \
                 to `failure` (route /)"
            ),
            format!(
                "warning: {example}:{breaker}: policies.breaker.handle_if: counts dns, connect, \
                 tls, connection-lost, protocol, timeout as a success, which closes a breaker \
                 however ill its upstream is; add it to `failure` (route /)"
            ),
        ]
    );
}

#[test]
fn a_limit_that_stands_still_while_a_stream_is_open_is_noted() {
    let noted = |listener: &str| {
        let directory = directory(&config(&format!(
            "[policies.total]\nkind = 'timeout'\nlimit = '1s'\n[upstreams.b]\n\
             endpoints = ['http://b']\nprotocol = 'http2'\n\
             [[routes]]\npath = '/b.B'\nupstream = 'b'\ngrpc = true\npolicies = ['total']\n\
             [[routes]]\nupstream = 'b'\npolicies = ['total']\n{listener}"
        )));
        let Ran { code, error, .. } = fusebox_noting(directory.path(), &["check"]);
        assert_eq!(code, Some(0), "{error}");
        let mut notes = error.lines().filter(|line| line.contains("policies.total"));
        (notes.next().map(str::to_owned), notes.count())
    };
    let note = "note: fusebox.toml:5: policies.total.limit: stands still while the client of a \
                call by gRPC keeps its side open, since a server that hangs then looks like one \
                that waits for more; what holds is the client's `grpc-timeout`, `max_deadline` of \
                the listener and `grpc_idle_timeout` of the route";
    assert_eq!(noted(""), (Some(note.to_owned()), 0));
    assert_eq!(noted("[listener]\nmax_deadline = '1m'\n"), (None, 0));
}

#[test]
fn check_names_each_default_in_force_that_has_changed_and_what_restores_it() {
    let noted = |text: &str| {
        let text = config(&format!(
            "{text}[[routes]]\nupstream = 'http://b'\npolicies = ['retry', 'breaker']\n"
        ));
        let Ran { code, error, .. } = fusebox_noting(directory(&text).path(), &["check"]);
        assert_eq!(code, Some(0), "{error}");
        error.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all =
        noted("[policies.retry]\nkind = 'retry'\n[policies.breaker]\nkind = 'circuit-breaker'\n");
    let keys = [
        "max_component_memory",
        "listener.min_rate",
        "listener.trusted",
        "listener.paths",
        "listener.max_replay_memory",
        "listener.retry_after_jitter",
        "policies.breaker.failure_threshold",
        "policies.breaker.delay_jitter",
        "policies.breaker.handle_if",
        "policies.retry.jitter",
        "policies.retry.max_retry_after",
        "policies.retry.budget",
        "policies.retry.retry_retried",
        "policies.retry.handle_if",
        "policies.retry.methods",
    ];
    for key in keys {
        let note = format!(": {key}: the default is ");
        assert!(
            all.iter().any(|line| line.starts_with("note: ") && line.contains(&note)),
            "{all:#?}"
        );
    }
    assert!(all.iter().all(|line| line.contains("; it was ")), "{all:#?}");
    let of_breaker = all.iter().find(|line| line.contains("breaker.handle_if")).expect("its note");
    for gone in ["429", "`retries-exceeded`", "`other`"] {
        assert!(of_breaker.contains(&format!("without {gone}")), "{of_breaker}");
    }
    // What each says restores the old one is valid, and silences it.
    let restored = noted(
        "max_component_memory = '1000GiB'\n\
         [listener]\nmin_rate = 0\nretry_after_jitter = 0\ntrusted = ['0.0.0.0/0', '::/0']\n\
         paths = 'as-is'\n\
         max_replay_memory = '1TiB'\n[policies.retry]\nkind = 'retry'\njitter = 0\n\
         max_retry_after = '60s'\nbudget = 'none'\nretry_retried = true\n\
         handle_if = { failure = ['dns', 'connect', 'tls', 'connection-lost', 'protocol', \
         'timeout', 'retries-exceeded', 'other'] }\n\
         methods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']\n\
         [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 5\ndelay_jitter = 0\n\
         handle_if = { status = ['429', '500', '502-599'], failure = ['dns', 'connect', 'tls', \
         'connection-lost', 'protocol', 'timeout', 'retries-exceeded', 'other'] }\n",
    );
    let noted_still =
        |line: &&String| keys.iter().any(|key| line.contains(&format!(" {key}: the ")));
    assert_eq!(restored.iter().find(noted_still), None);
}

#[test]
fn every_example_is_ok() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = root.join("policies/build/service_b.wasm");
    assert!(built.exists(), "{} is missing: run `make policies`", built.display());
    let examples = fs::read_dir(root.join("examples/configs")).expect("examples");
    let cache = tempfile::tempdir().expect("a directory");
    let issued = Authority::new("ours").issue("localhost", &["localhost"]);
    for (name, content) in [("localhost.pem", issued.cert), ("localhost.key", issued.key)] {
        fs::write(cache.path().join(name), content).expect("a file");
    }
    let certificates = cache.path().display().to_string();
    let variables = [("CERTIFICATES", &*certificates)];
    let mut checked = 0;
    for example in examples.map(|example| example.expect("an example").path()) {
        let arguments = ["check", &*example.display().to_string()];
        let Ran { code, out, error } =
            fusebox_elsewhere(&root, cache.path(), &arguments, &variables);
        assert_eq!((code, verdict(&out)), (Some(0), &*format!("{}: ok", example.display())));
        let warnings = match example.file_name().and_then(|name| name.to_str()) {
            // It has two faults on purpose.
            Some("composition-post.toml") => 2,
            // It repeats POST, and says why.
            Some("language-model.toml") => 1,
            _ => 0,
        };
        assert_eq!(error.lines().count(), warnings, "{error}");
        checked += 1;
    }
    assert!(checked >= 7, "{checked}");
}

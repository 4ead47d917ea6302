//! The second listener: what it shows, and the switches.

use fusebox_dev::{
    Origin, answer, eventually, get, handle_if, ok, predicate, responds, wat_component,
};
use fusebox_resilience::Fault;
use serde_json::{Value, json};

use crate::support::{Proxy, ROUTE, metrics};

const BREAKER: &str = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                       delay = '1h'\ndelay_jitter = 0\n\
    [policies.limit]\nkind = 'timeout'\nlimit = '10s'\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker', 'limit']\n";

const TOKEN: &str = "authorization: Bearer open sesame\r\n";

#[test]
fn health_is_told_by_get_and_head() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    for (path, says) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let response = proxy.admin(&format!("GET {path}"));
        assert_eq!((response.status(), response.text()), (200, says));
        assert_eq!(proxy.admin(&format!("HEAD {path}")).status(), 200);
    }
}

#[test]
fn what_is_not_there_is_a_404_and_a_wrong_method_a_405() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    for request in [
        "GET /",
        "GET /elsewhere",
        "GET /healthz/x",
        "POST /policies/breaker",
        "POST /policies/breaker/open/x",
        "GET /components",
    ] {
        let response = proxy.admin(request);
        assert_eq!(response.status(), 404, "{request}");
        assert!(response.text().contains("GET /healthz"), "and it says what there is");
    }
    for (request, allow) in [
        ("POST /healthz", "GET, HEAD"),
        ("DELETE /state", "GET, HEAD"),
        ("PUT /metrics", "GET, HEAD"),
        ("POST /readyz", "GET, HEAD"),
        ("GET /policies/breaker/open", "POST"),
    ] {
        let response = proxy.admin(request);
        assert_eq!((response.status(), response.header("allow")), (405, Some(allow)), "{request}");
    }
}

#[test]
fn the_admin_listener_is_not_the_proxys_and_not_the_other_way_round() {
    let origin = Origin::answering([ok("of b")]);
    let proxy = Proxy::before(&origin, ROUTE);
    assert_eq!(proxy.ask(get("/healthz", "1")).text(), "of b");
    assert_eq!(proxy.admin("GET /anything").status(), 404);
}

#[test]
fn the_state_is_that_of_routes_policies_components_and_workers() {
    let origin = Origin::answering([answer(500, "", "")]);
    let config = format!(
        "workers = 2\n[components.c]\nfile = 'c.wasm'\n[policies.retry]\nkind = 'retry'\n\
         max_retries = 0\n\
         abort_if = {{ component = 'c' }}\n[[routes]]\npath = '/api'\nhost = 'b'\n\
         methods = ['GET', 'PUT']\n\
         upstream = {{ url = 'ORIGIN' }}\npolicies = ['retry']\n{BREAKER}"
    );
    let component = predicate("(i32.const 0)");
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &component)], &config);
    let response = proxy.admin("GET /state");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    // Each worker makes its own once it runs.
    eventually("the instances", || {
        (proxy.state()["components"]["c"]["instances"] == 2).then_some(())
    });
    let mut state = proxy.state();
    assert!(state["components"]["c"]["digest"].as_str().is_some_and(|digest| digest.len() == 64));
    state["components"]["c"]["digest"] = "…".into();
    state["version"] = "…".into();
    let no_faults = Fault::ALL.into_iter().map(|fault| (fault.name().to_owned(), json!(0)));
    let no_faults = Value::Object(no_faults.collect());
    assert_eq!(
        state,
        json!({
            "version": "…",
            "ready": true,
            "connections": { "places": 10_000, "taken": 0 },
            "workers": [
                { "connections": 0, "stalled": false },
                { "connections": 0, "stalled": false },
            ],
            "routes": [
                {
                    "name": "GET,PUT b/api",
                    "matches": "GET,PUT b/api",
                    "upstream": origin.to_string(),
                    "policies": ["retry"],
                },
                {
                    "name": "/",
                    "matches": "/",
                    "upstream": origin.to_string(),
                    "policies": ["breaker", "limit"],
                },
            ],
            // Both routes say the same of their upstream, so they share it.
            "upstreams": [{
                "name": null,
                "endpoints": [{ "url": origin.to_string(), "connections": 0, "waiting": 0 }],
                "settings": {
                    "protocol": "auto",
                    "host": "client",
                    "envoy_attempt_count": false,
                    "forward_deadline": [],
                    "deadline_margin": "5ms",
                    "connect_timeout": "5s",
                    "response_timeout": "5m",
                    "idle_timeout": "1m",
                    "body_timeout": "1m",
                    "max_idle": 1024,
                    "max_connections": null,
                    "max_in_flight": null,
                    "max_age": null,
                    "max_requests": null,
                    "max_header": "64KiB",
                    "tls": null,
                },
                "budget": {
                    "calls_in_flight": 0,
                    "extras_in_flight": 0,
                    "calls_begun": 0,
                    "extras_begun": 0,
                },
            }],
            "policies": {
                "breaker": {
                    "kind": "circuit-breaker",
                    "state": "closed",
                    "successes": 0,
                    "failures": 0,
                    "failure_rate": 0.0,
                    "slow_calls": 0,
                    "admitted": 1.0,
                    "remaining_delay_ms": 0,
                    "trials": 0,
                    "openings": 0,
                },
                "limit": { "kind": "timeout" },
                "retry": { "kind": "retry", "waiting": 0 },
            },
            "budgets": {},
            "certificates": [],
            "connections": { "taken": 0, "places": 10_000 },
            "calls": null,
            "components": {
                "c": {
                    "file": "c.wasm",
                    "digest": "…",
                    "generation": 1,
                    "state": "probation",
                    "kept": [],
                    "rejected": null,
                    "calls": 0,
                    "skipped": 0,
                    "faults": no_faults,
                    "instances": 2,
                    "memory_bytes": 2 * (4 << 16),
                },
            },
        })
    );
    proxy.ask(get("/", "1"));
    let breaker = proxy.state()["policies"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["openings"]), (&json!("open"), &json!(1)));
    let remaining = breaker["remaining_delay_ms"].as_u64().expect("a number");
    assert!((3_000_000..=3_600_000).contains(&remaining), "{remaining}");
}

#[test]
fn metrics_are_in_the_format_of_prometheus() {
    let origin = Origin::answering([answer(503, "", ""), ok("")]);
    let config = "[components.c]\nfile = 'c.wasm'\nprobe = false\n\
        [policies.fallback]\nkind = 'fallback'\nhandle_if = { component = 'c' }\n\
        respond = { component = 'c' }\n\
        [policies.retry]\nkind = 'retry'\ndelay = '1ms'\n[policies.breaker]\n\
        kind = 'circuit-breaker'\n\
        [policies.limit]\nkind = 'timeout'\nlimit = '10s'\n\
        [[routes]]\nname = 'odd \"\\ name'\nupstream = 'ORIGIN'\n\
        policies = ['fallback', 'retry', 'breaker', 'limit']\n";
    let component = wat_component(&format!("{} {}", handle_if("unreachable"), responds(200, "")));
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &component)], config);
    let fresh = metrics(proxy.admin("GET /metrics").text());
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    proxy.story("1");
    let route = r#"route="odd \"\\ name""#;
    let requests = format!("fusebox_requests_total{{{route},status=\"200\"}}");
    proxy.counts(&[(&requests, 1.0)]);

    let response = proxy.admin("GET /metrics");
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let series = metrics(response.text());
    let of = |name: &str| series.get(name).copied();
    assert_eq!(of(&format!("fusebox_retries_total{{{route},policy=\"retry\"}}")), Some(1.0));
    assert_eq!(of(&format!("fusebox_attempts_total{{{route},outcome=\"5xx\"}}")), Some(1.0));
    assert_eq!(of(&format!("fusebox_attempts_total{{{route},outcome=\"2xx\"}}")), Some(1.0));
    assert_eq!(of(r#"fusebox_circuit_breaker_state{policy="breaker",state="closed"}"#), Some(1.0));
    assert_eq!(of(&proxy.fault_series("trap")), Some(1.0));
    // What can be counted is there before it is, for a rate needs a beginning.
    let counted = |name: &&String| name.contains("_total{") && !name.contains("requests_total");
    let absent: Vec<_> =
        series.keys().filter(counted).filter(|name| !fresh.contains_key(*name)).collect();
    assert!(absent.is_empty(), "{absent:?}");
    // Buckets grow, and the last one has all.
    for family in ["fusebox_request_duration_seconds", "fusebox_attempt_duration_seconds"] {
        let bucket = format!("{family}_bucket{{{route},le=\"");
        let mut buckets: Vec<(f64, f64)> = series
            .iter()
            .filter_map(|(name, count)| {
                let bound = name.strip_prefix(&bucket)?.strip_suffix("\"}")?;
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, *count))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(
            buckets.len() > 5 && buckets.is_sorted_by(|one, other| one.1 <= other.1),
            "{buckets:?}"
        );
        let count = of(&format!("{family}_count{{{route}}}")).expect("a count");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
        assert!(count > 0.0 && of(&format!("{family}_sum{{{route}}}")).expect("a sum") > 0.0);
    }
    // Nothing that a client sends makes a series of its own.
    let before = series.len();
    for number in 0..20 {
        proxy.ask(get(&format!("/{number}?{number}"), &number.to_string()));
    }
    assert_eq!(metrics(proxy.admin("GET /metrics").text()).len(), before);
}

#[test]
fn without_a_token_file_nothing_can_be_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let origin = Origin::answering([ok("")]);
    let config = BREAKER.replace("ORIGIN", &origin.to_string());
    let config = format!("listen = '127.0.0.1:0'\nadmin = {{ listen = '127.0.0.1:0' }}\n{config}");
    let proxy = Proxy::run(directory, &config);
    assert_eq!(proxy.admin_with("POST /policies/breaker/open", TOKEN).status(), 403);
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
}

#[test]
fn a_missing_or_wrong_token_changes_nothing() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    for token in [
        "",
        "authorization: Bearer open\r\n",
        "authorization: Bearer open sesame!\r\n",
        "authorization: Bearer \r\n",
        "authorization: Basic open sesame\r\n",
        "authorization: open sesame\r\n",
        "authorization: B\r\n",
    ] {
        let response = proxy.admin_with("POST /policies/breaker/open", token);
        assert_eq!(
            (response.status(), response.header("www-authenticate")),
            (401, Some("Bearer")),
            "{token}"
        );
    }
    // Who may not change anything does not learn what there is.
    assert_eq!(proxy.admin("POST /policies/elsewhere/open").status(), 401);
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
}

#[test]
fn the_token_is_read_anew_each_time() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    std::fs::write(proxy.path("token"), "rotated").expect("a file");
    assert_eq!(proxy.admin_with("POST /policies/breaker/open", TOKEN).status(), 401);
    let rotated = "authorization: bearer rotated\r\n";
    assert_eq!(proxy.admin_with("POST /policies/breaker/open", rotated).status(), 200);
    for broken in ["", "\n"] {
        std::fs::write(proxy.path("token"), broken).expect("a file");
        assert_eq!(
            proxy.admin_with("POST /policies/breaker/close", "authorization: Bearer \r\n").status(),
            403
        );
    }
    std::fs::remove_file(proxy.path("token")).expect("a file");
    assert_eq!(proxy.admin_with("POST /policies/breaker/close", rotated).status(), 403);
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "open");
}

#[test]
fn a_breaker_is_moved_by_hand() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    let message =
        |from: &str, to: &str| format!("circuit breaker state changed from {from} to {to}");
    let switch = |action: &str| {
        let response = proxy.admin_with(&format!("POST /policies/breaker/{action}"), TOKEN);
        assert_eq!(response.status(), 200);
        response.text().to_owned()
    };
    assert_eq!(switch("open"), "breaker: open\n");
    let line = proxy.line(&message("closed", "open"));
    assert_eq!((&line["policy"], &line["delay_ms"]), (&json!("breaker"), &json!(3_600_000.0)));
    assert_eq!(line.get("request_id"), None, "it is nobody's request");
    let response = proxy.ask(get("/", "1"));
    assert_eq!((response.status(), origin.seen().len()), (503, 0));

    assert_eq!(switch("half-open"), "breaker: half-open\n");
    proxy.line(&message("open", "half-open"));
    assert_eq!(proxy.ask(get("/", "2")).status(), 200, "the trial");
    proxy.line(&message("half-open", "closed"));

    switch("open");
    assert_eq!(switch("close"), "breaker: closed\n");
    proxy.line(&message("open", "closed"));
    assert_eq!(switch("close"), "breaker: closed\n");
    assert_eq!(proxy.ask(get("/", "3")).status(), 200);
    assert_eq!(
        proxy.lines(&message("open", "closed")).len(),
        1,
        "what changes nothing is no event"
    );
    proxy.counts(&[(
        r#"fusebox_circuit_breaker_transitions_total{policy="breaker",from="closed",to="open"}"#,
        2.0,
    )]);
}

#[test]
fn a_policy_takes_its_own_commands_and_no_others() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    for (path, says) in [
        ("/policies/limit/open", "`limit` is a timeout, which takes no command\n"),
        ("/policies/elsewhere/open", "no policy `elsewhere`\n"),
        ("/policies/breaker/shut", "no command `shut`; expected open, close, half-open\n"),
    ] {
        let response = proxy.admin_with(&format!("POST {path}"), TOKEN);
        assert_eq!((response.status(), response.text()), (404, says));
    }
}

#[test]
fn a_change_is_refused_that_says_what_nobody_looks_at() {
    let origin = Origin::answering([answer(200, "cache-control: max-age=60\r\n", "")]);
    let config = "[policies.cache]\nkind = 'cache'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['cache']\n";
    let proxy = Proxy::before(&origin, config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    for (path, says) in [
        ("/policies/cache/purge?path=/x", "no parameter `path`; expected `key`\n"),
        ("/policies/cache/purge?path=/&key=a", "no parameter `path`; expected `key`\n"),
        ("/reload?component=c", "no parameter `component`; none is expected\n"),
    ] {
        let response = proxy.admin_with(&format!("POST {path}"), TOKEN);
        assert_eq!((response.status(), response.text()), (400, says));
    }
    proxy.counts(&[(r#"fusebox_cache_entries{policy="cache"}"#, 1.0)]);
    assert_eq!(proxy.admin_with("POST /policies/cache/purge?", TOKEN).status(), 200);
    proxy.counts(&[(r#"fusebox_cache_entries{policy="cache"}"#, 0.0)]);
}

#[test]
fn connections_are_counted_while_they_are_there() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    let connections = |expected: u64| {
        eventually("so many connections", || {
            (proxy.state()["workers"][0]["connections"] == expected).then_some(())
        });
    };
    connections(3);
    drop(clients);
    connections(0);
}

//! Policies with a state for each key, as clients and operators meet them.

use fusebox_dev::{Origin, ok};
use serde_json::json;

use crate::errors::is_problem;
use crate::support::Proxy;

const TOKEN: &str = "authorization: Bearer open sesame\r\n";

fn of_tenant(path: &str, tenant: &str, id: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n");
    format!("{head}x-tenant: {tenant}\r\n\r\n")
}

#[test]
fn a_tenant_that_floods_gets_429_and_the_others_their_answers() {
    let origin = Origin::answering([ok("")]);
    let config = "workers = 3\n[policies.rate]\nkind = 'rate-limiter'\nlimit = 2\nper = '1h'\n\
                  max_keys = 3\nkey = { header = 'x-tenant' }\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['rate']\n";
    let proxy = Proxy::before(&origin, config);
    // Each on a connection of its own, and so on any worker.
    let flood = (0..6).map(|_| proxy.connect().ask(of_tenant("/", "red", "red")).status());
    assert_eq!(flood.collect::<Vec<_>>(), [200, 200, 429, 429, 429, 429]);
    for tenant in ["blue", "green"] {
        assert_eq!(proxy.connect().ask(of_tenant("/", tenant, tenant)).status(), 200);
    }
    let answer = proxy.connect().ask(of_tenant("/", "red", "again"));
    is_problem(&answer, "again", 429, "http_request_denied", "rate limit exceeded");
    // No bucket is full, so nobody is forgotten for newcomers, who share one.
    let newcomers = (0..3).map(|number| {
        let tenant = format!("invented-{number}");
        proxy.connect().ask(of_tenant("/", &tenant, &tenant)).status()
    });
    assert_eq!(newcomers.collect::<Vec<_>>(), [200, 200, 429]);
    proxy.story("invented-2");
    // Written by another worker, perhaps later.
    proxy.line("Too many keys: newcomers share one state");
    let told = proxy.lines("Too many keys: newcomers share one state");
    assert_eq!(told.len(), 1, "of three, within a moment");
    assert_eq!((&told[0]["count"], &told[0]["policy"]), (&json!(1), &json!("rate")));
    let state = proxy.state()["policies"]["rate"].clone();
    assert_eq!(
        state["keys"],
        json!({
            "count": 3, "max": 3,
            "busiest": [
                { "key": "red", "calls": 7, "tokens": 0, "waiting": 0 },
                { "key": "blue", "calls": 1, "tokens": 1, "waiting": 0 },
                { "key": "green", "calls": 1, "tokens": 1, "waiting": 0 },
            ],
            "none": { "tokens": 2, "waiting": 0 },
            "overflow": { "tokens": 0, "waiting": 0 },
        }),
        "{state}"
    );
    proxy.counts(&[
        (r#"fusebox_rate_limiter_keys{policy="rate"}"#, 3.0),
        (r#"fusebox_key_overflows_total{route="/",policy="rate"}"#, 3.0),
    ]);
    let metrics = proxy.admin("GET /metrics");
    assert!(!metrics.text().contains("\"red\""), "no series of a client's making");
}

#[test]
fn however_a_client_spells_a_path_it_has_the_key_of_its_segment() {
    let origin = Origin::answering([ok("")]);
    // Neither route nor upstream has a path, so that only the key reads it.
    let config = |paths: &str| {
        format!(
            "listener = {{ paths = '{paths}' }}\n[policies.rate]\nkind = 'rate-limiter'\n\
             limit = 1\nper = '1h'\nkey = {{ path_segment = 2 }}\n\
             [[routes]]\nupstream = 'ORIGIN'\npolicies = ['rate']\n"
        )
    };
    let spelled = [
        "/t/acme/x",
        "/t/%61cme/x",
        "//t//acme/x",
        "/t;v/acme;1/x",
        "/t/acme;2/x",
        "/t/;/acme/x",
        "/t/acme%2fx",
        "/t/acme%5cx",
        "/t/acme\\x",
    ];
    let proxy = Proxy::before(&origin, &config("strict"));
    let status = |path: &str| proxy.ask(of_tenant(path, "", "1")).status();
    let statuses = spelled.map(status);
    assert_eq!(statuses, [200, 429, 429, 429, 429, 429, 429, 429, 429]);
    // An escape of an escape is one more: decoded once, as routes do, and not again.
    assert_eq!(["/t/%2561cme/x", "/;/t/%2561cme", "/t/other/x"].map(status), [200, 429, 200]);
    // What a program behind may resolve to another's.
    assert_eq!(["/t/./acme", "/t/other/%2e%2e/acme"].map(status), [400, 400]);
    let keys = proxy.state()["policies"]["rate"]["keys"].clone();
    assert_eq!(keys["count"], 3, "{keys}");
    let proxy = Proxy::before(&origin, &config("as-is"));
    let statuses = spelled.map(|path| proxy.ask(of_tenant(path, "", "1")).status());
    assert_eq!(statuses, [200, 429, 200, 200, 200, 200, 200, 200, 429], "but for escapes");
}

#[test]
fn however_many_tenants_a_client_invents_no_open_circuit_is_forgotten() {
    let origin = Origin::answering([ok("")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '1h'\nkey = { header = 'x-tenant' }\nmax_keys = 20\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";
    let proxy = Proxy::before(&origin, config);
    let opened = proxy.admin_with("POST /policies/breaker/open?key=red", TOKEN);
    assert_eq!(opened.status(), 200);
    let mut client = proxy.connect();
    let mut status = |tenant: &str| client.ask(of_tenant("/", tenant, "1")).status();
    for number in 0..500 {
        assert_eq!(status(&format!("invented-{number}")), 200);
    }
    // One as long as a head may be, of which the beginning is kept, and one that is no head's.
    assert_eq!(status(&"x".repeat(40 << 10)), 200);
    assert_eq!(status("red"), 503);
    let mut other = proxy.connect();
    other.try_send(of_tenant("/", &"x".repeat(1 << 20), "1")).ok();
    assert_eq!(other.response().status(), 431);
    let keys = proxy.state()["policies"]["breaker"]["keys"].clone();
    assert_eq!((&keys["count"], &keys["max"]), (&json!(20), &json!(20)), "{keys}");
    let shown = keys["busiest"].as_array().expect("a list").iter().map(|key| &key["key"]);
    let longest = shown.map(|key| key.as_str().map_or(0, str::len)).max();
    assert!(longest.is_some_and(|longest| (20..100).contains(&longest)), "{keys}");
    proxy.counts(&[(r#"fusebox_circuit_breaker_open_keys{policy="breaker"}"#, 1.0)]);
}

#[test]
fn an_operator_opens_the_circuit_of_one_key() {
    let origin = Origin::answering([ok("")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  key = [{ header = 'x-tenant' }, { query = 't' }]\n\
                  [policies.plain]\nkind = 'circuit-breaker'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker', 'plain']\n";
    let proxy = Proxy::before(&origin, config);
    let post = |target: &str| {
        let answer = proxy.admin_with(&format!("POST {target}"), TOKEN);
        (answer.status(), answer.text().to_owned())
    };
    let opened = post("/policies/breaker/open?key=red&key=a%20b");
    assert_eq!(opened, (200, "breaker: open\n".to_owned()));
    let status = |tenant: &str, query: &str| {
        proxy.ask(of_tenant(&format!("/?t={query}"), tenant, "1")).status()
    };
    assert_eq!(
        [status("red", "a+b"), status("red", "b"), status("blue", "a+b")],
        [503, 200, 200],
        "of exactly one key"
    );
    let change = proxy.line("circuit breaker state changed from closed to open");
    assert_eq!(change["key"], "red, a b");
    let change = proxy.line("Admin change");
    assert_eq!(change["request"], "POST /policies/breaker/open?key=red&key=a%20b");
    let (refused, why) = post("/policies/breaker/open");
    assert_eq!((refused, why.contains("by `?key=VALUE`, 2 times")), (400, true), "{why}");
    let (refused, why) = post("/policies/plain/open?key=red");
    assert_eq!((refused, why.contains("it has no `key`")), (400, true), "{why}");
    assert_eq!(post("/policies/plain/close"), (200, "plain: closed\n".to_owned()));
    proxy.counts(&[(r#"fusebox_circuit_breaker_open_keys{policy="breaker"}"#, 1.0)]);
    let closed = post("/policies/breaker/close?key=red&key=a%20b");
    assert_eq!((closed.0, status("red", "a+b")), (200, 200));
}

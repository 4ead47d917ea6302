//! `[upstreams.NAME]`: upstreams that several routes share.

use fusebox_dev::{ClosedDoor, Origin, Ran, answer, get, ok};
use serde_json::json;

use crate::cli::{complaints, config, directory};
use crate::support::{Proxy, fusebox, verdict};

#[test]
fn routes_that_name_the_same_upstream_share_its_connections() {
    let origin = Origin::answering([ok("of b")]);
    let text = "workers = 1\n[upstreams.b]\nendpoints = ['ORIGIN']\n\
                [[routes]]\nupstream = 'b'\n[[routes]]\npath = '/api'\nupstream = 'b'\n\
                [[routes]]\npath = '/own'\nupstream = { url = 'ORIGIN', max_idle = 1 }\n";
    let proxy = Proxy::before(&origin, text);
    for path in ["/", "/api", "/", "/api"] {
        assert_eq!(proxy.ask(get(path, "1")).text(), "of b");
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.ask(get("/own", "1")).text(), "of b");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn its_settings_are_those_of_all_its_routes() {
    let origin = Origin::answering([ok("of b")]);
    let text = "[upstreams.b]\nendpoints = ['ORIGIN/base']\nhost = 'upstream'\nmax_idle = 0\n\
                [[routes]]\nupstream = 'b'\n[[routes]]\npath = '/api'\nupstream = 'b'\n";
    let proxy = Proxy::before(&origin, text);
    proxy.ask(get("/", "1"));
    proxy.ask(get("/api", "2"));
    let seen = origin.seen();
    let targets: Vec<&str> = seen.iter().map(|seen| seen.request.target()).collect();
    assert_eq!(targets, ["/base/", "/base/api"]);
    let address = origin.address().to_string();
    assert!(seen.iter().all(|seen| seen.request.header("host") == Some(&*address)));
    assert_eq!(origin.connections(), 2, "none is kept");
}

#[test]
fn the_state_calls_an_upstream_by_its_name() {
    let origin = Origin::answering([ok("")]);
    let text = "[upstreams.b]\nendpoints = ['ORIGIN']\nconnect_timeout = '1s'\n\
                [[routes]]\nupstream = 'b'\n";
    let state = Proxy::before(&origin, text).state();
    assert_eq!(state["routes"][0]["upstream"], "b");
    let upstream = &state["upstreams"][0];
    assert_eq!(upstream["name"], "b");
    assert_eq!(
        upstream["endpoints"],
        json!([{ "connections": 0, "waiting": 0, "url": origin.to_string() }])
    );
    assert_eq!(upstream["settings"]["connect_timeout"], "1s");
}

#[test]
fn a_name_that_is_not_declared_is_an_error() {
    let route = |upstream: &str| format!("[[routes]]\nupstream = '{upstream}'\n");
    let declared = "[upstreams.b]\nendpoints = ['http://b']\n";
    for (text, expected) in [
        (
            route("b"),
            "fusebox.toml:4: routes[0].upstream: unknown upstream `b`; the file has none; \
             a URL begins with `http://` or `https://`",
        ),
        (
            format!(
                "{declared}{}{}",
                route("b"),
                route("c").replace("upstream", "path = '/c'\nupstream")
            ),
            "fusebox.toml:9: routes[1].upstream: unknown upstream `c`; expected one of b; \
             a URL begins with `http://` or `https://`",
        ),
        (
            route("b.example"),
            "fusebox.toml:4: routes[0].upstream: expected `http[s]://host[:port][/base]`, found \
             `b.example`",
        ),
    ] {
        assert_eq!(complaints(directory(&config(&text)).path()), [expected]);
    }
}

#[test]
fn what_is_declared_wrong_is_said_once_and_where() {
    for (text, expected) in [
        (
            "",
            "fusebox.toml:3: upstreams.b.endpoints: missing; expected a list such as \
             [\"http://127.0.0.1:3001\"] or a table such as { dns = \"b.example:8080\" }",
        ),
        (
            "endpoints = 'http://b'",
            "fusebox.toml:4: upstreams.b.endpoints: expected a list such as \
             [\"http://127.0.0.1:3001\"] or a table such as { dns = \"b.example:8080\" }, found \
             `\"http://b\"`",
        ),
        (
            "endpoints = []",
            "fusebox.toml:4: upstreams.b.endpoints: expected a list such as \
             [\"http://127.0.0.1:3001\"], found an empty one",
        ),
        (
            "endpoints = ['http://b', 'http://c', 'http://b']",
            "fusebox.toml:4: upstreams.b.endpoints[2]: `http://b` is in the list twice; \
             a `weight` is a share",
        ),
        (
            "endpoints = ['https://B.:443/x/', 'https://b/x']",
            "fusebox.toml:4: upstreams.b.endpoints[1]: `https://b/x` is in the list twice; \
             a `weight` is a share",
        ),
        (
            "endpoints = ['http://[::1]', 'http://[0:0::1]:80']",
            "fusebox.toml:4: upstreams.b.endpoints[1]: `http://[0:0::1]:80` is in the list twice; \
             a `weight` is a share",
        ),
        (
            "endpoints = [{ weight = 2 }]",
            "fusebox.toml:4: upstreams.b.endpoints[0].url: missing; expected a URL such as \
             \"http://127.0.0.1:3001\"",
        ),
        (
            "endpoints = [{ url = 'http://b', weight = 0 }]",
            "fusebox.toml:4: upstreams.b.endpoints[0].weight: must be from 1 to 100, is 0",
        ),
        (
            "endpoints = [{ url = 'http://b', share = 1 }]",
            "fusebox.toml:4: upstreams.b.endpoints[0].share: unknown key `share`; expected one \
             of url, weight, tier",
        ),
        (
            "endpoints = [{ url = 'http://b', tier = 70000 }]",
            "fusebox.toml:4: upstreams.b.endpoints[0].tier: expected a whole number from 0 to \
             65535, found `70000`",
        ),
        (
            "endpoints = [{ url = 'http://b', tier = 'backup' }]",
            "fusebox.toml:4: upstreams.b.endpoints[0].tier: expected a whole number from 0 to \
             65535, found `\"backup\"`",
        ),
        (
            "endpoints = ['http://b', { url = 'http://b', tier = 1 }]",
            "fusebox.toml:4: upstreams.b.endpoints[1]: `http://b` is in the list twice; a `weight` \
             is a share",
        ),
        (
            "endpoints = ['http://b']\nbalance = 'random'",
            "fusebox.toml:5: upstreams.b.balance: expected \"least-request\", \"round-robin\" \
             or a table such as { hash = { header = \"x-user\" } }, found `\"random\"`",
        ),
        (
            "endpoints = ['http://b']\nbalance = {}",
            "fusebox.toml:5: upstreams.b.balance: expected \"least-request\", \"round-robin\" \
             or a table such as { hash = { header = \"x-user\" } }, found a table without `hash`",
        ),
        (
            "endpoints = ['http://b']\nbalance = { hash = { header = 'a b' } }",
            "fusebox.toml:5: upstreams.b.balance.hash: `a b` is no header's name",
        ),
        (
            "endpoints = ['http://b']\nhealth = { base = '2s', max = '1s' }",
            "fusebox.toml:5: upstreams.b.health.base: must be at most `max`, which is 1s, is 2s",
        ),
        (
            "endpoints = ['http://b']\nhealth = { interval = '2s' }",
            "fusebox.toml:5: upstreams.b.health.interval: is of checks, which need a `path`, \
             or `grpc`",
        ),
        (
            "endpoints = ['http://b']\nprotocol = 'http2'\nhealth = { path = '/', grpc = '' }",
            "fusebox.toml:6: upstreams.b.health.grpc: there is a `path`, too; a check asks for one",
        ),
        (
            "endpoints = ['http://b']\nprotocol = 'http2'\n\
             health = { grpc = '', expect = ['200'] }",
            "fusebox.toml:6: upstreams.b.health.expect: is of checks, which need a `path`",
        ),
        (
            "endpoints = ['http://b']\nhealth = { grpc = 'a.B' }",
            "fusebox.toml:5: upstreams.b.health.grpc: needs HTTP/2: `protocol = \"http2\"`",
        ),
        (
            "endpoints = ['http://b']\nhealth = { path = '/', expect = ['6xx'] }",
            "fusebox.toml:5: upstreams.b.health.expect[0]: expected a status such as \"200\", \
             \"2xx\" or \"200-399\", found `6xx`",
        ),
        (
            "endpoints = ['http://b']\nhealth = { every = '2s' }",
            "fusebox.toml:5: upstreams.b.health.every: unknown key `every`; expected one of \
             consecutive, base, max, max_ejection_percent, path, grpc, interval, timeout, expect",
        ),
        (
            "endpoints = ['ftp://b']",
            "fusebox.toml:4: upstreams.b.endpoints[0]: expected `http[s]://host[:port][/base]`, \
             found `ftp://b`",
        ),
        (
            "endpoints = ['http://b']\nurl = 'http://b'",
            "fusebox.toml:5: upstreams.b.url: unknown key `url`; expected one of endpoints, \
             policies, balance, slow_start, health, protocol, host, envoy_attempt_count, \
             forward_deadline, \
             deadline_margin, connect_timeout, response_timeout, idle_timeout, body_timeout, \
             max_idle, max_connections, max_in_flight, max_age, max_requests, max_header, tls",
        ),
    ] {
        let text = format!("[upstreams.b]\n{text}\n[[routes]]\nupstream = 'b'\n");
        assert_eq!(complaints(directory(&config(&text)).path()), [expected]);
    }
}

#[test]
fn one_that_no_route_uses_is_a_warning() {
    let text = "[upstreams.b]\nendpoints = ['http://b']\n[upstreams.c]\nendpoints = ['http://c']\n\
                [[routes]]\nupstream = 'b'\n";
    let Ran { code, out, error } = fusebox(directory(&config(text)).path(), &["check"]);
    assert_eq!((code, verdict(&out)), (Some(0), "fusebox.toml: ok"));
    assert_eq!(error, "warning: fusebox.toml:5: upstreams.c: no route uses it\n");
}

#[test]
fn what_is_said_of_several_endpoints_is_a_warning_where_there_is_one() {
    let text = "[upstreams.b]\nendpoints = ['http://b']\nbalance = 'round-robin'\n\
                [upstreams.c]\nendpoints = ['http://b', 'http://c']\nbalance = 'round-robin'\n\
                [[routes]]\nupstream = 'b'\n[[routes]]\npath = '/c'\nupstream = 'c'\n";
    let directory = directory(&config(text));
    let Ran { code, error, .. } = fusebox(directory.path(), &["check"]);
    let expected = "warning: fusebox.toml:5: upstreams.b.balance: says nothing: the upstream has \
                    one endpoint\n";
    assert_eq!((code, &*error), (Some(0), expected));
    let explained = fusebox(directory.path(), &["check", "--explain", "/c"]).out;
    assert!(explained.contains("one of 2 endpoints, by round-robin; up to 5s"), "{explained}");
    let text = "[upstreams.b]\nendpoints = ['http://b', { url = 'http://c', tier = 1 }]\n\
                [[routes]]\nupstream = 'b'\n";
    let directory = self::directory(&config(text));
    let explained = fusebox(directory.path(), &["check", "--explain", "/"]).out;
    assert!(explained.contains("one of 2 endpoints, 1 in reserve, by least"), "{explained}");
}

/// A fallback to `b2`, which has a retry of its own.
const TO_ANOTHER: &str = "[policies.elsewhere]\nkind = 'fallback'\nrespond = { upstream = 'b2' }\n\
    [policies.again]\nkind = 'retry'\ndelay = '1ms'\n\
    [upstreams.b2]\nendpoints = ['OTHER']\npolicies = ['again']\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['elsewhere']\n";

#[test]
fn a_fallback_sends_the_request_to_another_upstream_through_its_policies() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let other = Origin::answering([answer(503, "", "busy too"), ok("of b2")]);
    let proxy = Proxy::before(&origin, &TO_ANOTHER.replace("OTHER", &other.to_string()));
    let head = "PUT /x?y HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 4";
    let put = format!("{head}\r\n\r\nbody");
    assert_eq!(proxy.ask(put).text(), "of b2");
    assert_eq!(origin.only().text(), "body");
    let seen = other.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|it| it.request.target() == "/x?y" && it.request.text() == "body"));
    let told = proxy.told("1");
    assert!(told.contains(&"Fallback executed result".to_owned()), "{told:?}");
    let state = proxy.state();
    let names: Vec<_> = (0..2).map(|at| state["upstreams"][at]["name"].clone()).collect();
    assert_eq!(json!(names), json!([null, "b2"]));
}

#[test]
fn if_the_other_upstream_is_gone_the_first_answer_goes_out() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let closed = ClosedDoor::refusing();
    let proxy = Proxy::before(&origin, &TO_ANOTHER.replace("OTHER", &closed.to_string()));
    let response = proxy.ask(get("/", "1"));
    assert_eq!((response.status(), response.text()), (503, "busy"));
    assert!(proxy.told("1").contains(&"Fallback declined".to_owned()));
}

#[test]
fn fallbacks_that_lead_back_and_upstreams_that_are_not_there_are_errors() {
    let fallback = |name: &str, upstream: &str| {
        format!("[policies.{name}]\nkind = 'fallback'\nrespond = {{ upstream = '{upstream}' }}\n")
    };
    let upstream = |name: &str, policy: &str| {
        format!("[upstreams.{name}]\nendpoints = ['http://b']\npolicies = ['{policy}']\n")
    };
    let route = "[[routes]]\nupstream = 'http://b'\npolicies = ['f2']\n";
    let says = |text: &str| complaints(directory(&config(text)).path());
    let loops = [fallback("f2", "b2"), upstream("b2", "f2"), route.to_owned()].concat();
    assert_eq!(
        says(&loops),
        ["fusebox.toml:8: upstreams.b2.policies: a fallback among them leads back to this \
             upstream"]
    );
    let over_two = [
        fallback("f2", "b2"),
        fallback("f3", "b3"),
        upstream("b2", "f3"),
        upstream("b3", "f2"),
        route.to_owned(),
    ];
    assert_eq!(says(&over_two.concat()).len(), 2, "each of the two");
    let nowhere = [fallback("f2", "b9"), route.to_owned()].concat();
    let said = says(&nowhere);
    assert!(said.len() == 1 && said[0].contains("unknown upstream `b9`"), "{said:?}");
    let unknown = [fallback("f2", "b2"), upstream("b2", "f9"), route.to_owned()].concat();
    let said = says(&unknown);
    assert!(said.len() == 1 && said[0].contains("unknown policy `f9`"), "{said:?}");
    let own = "[policies.f2]\nkind = 'retry'\n[upstreams.b2]\nendpoints = ['http://b']\n\
               policies = ['f2']\n[[routes]]\nupstream = 'b2'\n";
    let Ran { code, error, .. } = fusebox(directory(&config(own)).path(), &["check"]);
    assert!(code == Some(0) && error.contains("no fallback asks this upstream"), "{error}");
}

#[test]
fn what_an_endpoint_has_at_once_is_part_of_the_arithmetic() {
    let check = |keys: &str| {
        let text = format!("[[routes]]\nupstream = {{ url = 'http://b', {keys} }}\n");
        let directory = directory(&config(&text));
        let Ran { code, error, .. } = fusebox(directory.path(), &["check"]);
        assert_eq!(code, Some(0), "{error}");
        let explained = fusebox(directory.path(), &["check", "--explain", "/"]).out;
        (error, explained)
    };
    let (warnings, explained) = check("max_in_flight = 10, connect_timeout = '2s'");
    assert_eq!(warnings, "");
    assert!(explained.contains("10 at once, waiting up to 2s; up to 2s to connect"), "{explained}");
    assert!(explained.contains(" 5m 4s "), "{explained}");
    let never = "warning: fusebox.toml:4: routes[0].upstream.max_in_flight: is never reached over \
                 HTTP/1.1, since `max_connections` is 9\n";
    assert_eq!(check("max_in_flight = 10, max_connections = 9").0, never);
    for keys in ["max_in_flight = 9, max_connections = 9", "max_in_flight = 10"] {
        assert_eq!(check(keys).0, "", "{keys}");
    }
    assert_eq!(check("max_in_flight = 10, max_connections = 9, protocol = 'http2'").0, "");
}

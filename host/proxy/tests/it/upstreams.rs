//! `[upstreams.NAME]`: upstreams that several routes share.

use fusebox_dev::{Origin, Ran, get, ok};
use serde_json::json;

use crate::cli::{complaints, config, directory};
use crate::support::{Proxy, fusebox};

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
    assert_eq!(upstream["endpoints"], json!([{ "url": origin.to_string() }]));
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
             a URL begins with `http://`",
        ),
        (
            format!(
                "{declared}{}{}",
                route("b"),
                route("c").replace("upstream", "path = '/c'\nupstream")
            ),
            "fusebox.toml:9: routes[1].upstream: unknown upstream `c`; expected one of b; \
             a URL begins with `http://`",
        ),
        (
            route("b.example"),
            "fusebox.toml:4: routes[0].upstream: expected `http://host[:port][/base]`, found \
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
             [\"http://127.0.0.1:3001\"]",
        ),
        (
            "endpoints = 'http://b'",
            "fusebox.toml:4: upstreams.b.endpoints: expected a list, found `http://b`",
        ),
        (
            "endpoints = []",
            "fusebox.toml:4: upstreams.b.endpoints: expected one endpoint for now, found 0",
        ),
        (
            "endpoints = ['http://b', 'http://c']",
            "fusebox.toml:4: upstreams.b.endpoints: expected one endpoint for now, found 2",
        ),
        (
            "endpoints = ['https://b']",
            "fusebox.toml:4: upstreams.b.endpoints[0]: expected `http://host[:port][/base]`, \
             found `https://b`: TLS to upstreams is not there yet",
        ),
        (
            "endpoints = ['http://b']\nurl = 'http://b'",
            "fusebox.toml:5: upstreams.b.url: unknown key `url`; expected one of endpoints, host, \
             envoy_attempt_count, connect_timeout, response_timeout, idle_timeout, body_timeout, \
             max_idle, max_header",
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
    assert_eq!((code, &*out), (Some(0), "fusebox.toml: ok\n"));
    assert_eq!(error, "warning: fusebox.toml:5: upstreams.c: no route uses it\n");
}

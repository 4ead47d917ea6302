//! What is read, and what is said of what can't be read.

use std::time::Duration;

use fusebox_resilience::config::{ConfigDuration, ConfigSize};

use super::*;
use crate::config::{HostHeader, RouteUpstream, UpstreamConfig};
use crate::observe::Level;

const ROUTE: &str = "[[routes]]\nupstream = \"http://b\"\n";

fn read(text: &str) -> Result<Config, Vec<String>> {
    let variable = |name: &str| match name {
        "PORT" => Some("3002".to_owned()),
        "TWO" => Some("2".to_owned()),
        "TENTH" => Some("0.1".to_owned()),
        "YES" => Some("true".to_owned()),
        "WORD" => Some("two".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    match parse("x.toml".as_ref(), text, variable) {
        Ok(file) => Ok(file.config),
        Err(invalid) => Err(invalid.errors.iter().map(ToString::to_string).collect()),
    }
}

/// The upstream that a route declares for itself.
#[track_caller]
fn own(config: &Config, route: usize) -> &UpstreamConfig {
    match &config.routes[&route].upstream {
        RouteUpstream::Own(upstream) => upstream,
        RouteUpstream::Named(name) => panic!("`{name}` is a name"),
    }
}

#[track_caller]
fn refused(text: &str, errors: &[&str]) {
    assert_eq!(read(text).expect_err("is wrong"), errors, "{text}");
}

/// With a listener in line 1 and a route at the end.
fn around(text: &str) -> String {
    format!("listen = \"127.0.0.1:0\"\n{text}\n{ROUTE}")
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = read(&around("")).unwrap();
    assert_eq!((config.workers, config.admin.is_none()), (None, true));
    assert_eq!(config.listener.drain_timeout.0, Duration::from_secs(30));
    assert_eq!((config.log.level, config.log.access), (Level::Info, true));
    let route = &config.routes[&0];
    assert_eq!((&*route.path, route.max_replay_body), ("/", ConfigSize::kib(64)));
    let upstream = own(&config, 0);
    assert_eq!((upstream.label(), upstream.settings.host), ("http://b", HostHeader::Client));
}

#[test]
fn an_upstream_is_a_url_or_a_table() {
    let text = "listen = \"[::1]:80\"\n[[routes]]\nupstream = { url = \"http://b\", host = \
                \"upstream\", max_idle = 1 }";
    let config = read(text).unwrap();
    let settings = &own(&config, 0).settings;
    assert_eq!((settings.host, settings.max_idle), (HostHeader::Upstream, 1));
    assert_eq!(settings.connect_timeout, ConfigDuration::from_secs(5));
    let listen = "listen = \"127.0.0.1:0\"\n";
    refused(
        &format!("{listen}[[routes]]\nupstream = 3"),
        &["x.toml:3: routes[0].upstream: expected a URL such as \"http://127.0.0.1:3001\", \
             the name of an upstream, or a table with `url`, found `3`"],
    );
    refused(
        &format!("{listen}[[routes]]\nupstream = {{}}"),
        &["x.toml:3: routes[0].upstream.url: missing; \
             expected a URL such as \"http://127.0.0.1:3001\""],
    );
}

#[test]
fn what_is_left_of_a_table_without_its_mistyped_key_is_not_told_of_too() {
    let listen = "listen = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"http://b\"\n";
    let of = |kind: &str, rest: &str| format!("{listen}[policies.p]\nkind = \"{kind}\"\n{rest}\n");
    refused(
        &of("circuit-breaker", "key = { tenant = \"a\" }"),
        &["x.toml:6: policies.p.key.tenant: unknown key `tenant`; expected one of header, \
             client, path_segment, query, cookie, component"],
    );
    refused(
        &of("circuit-breaker", "key = { header = \"a\", tenant = \"a\", client = 3 }"),
        &[
            "x.toml:6: policies.p.key.client: expected true or false, found `3`",
            "x.toml:6: policies.p.key.tenant: unknown key `tenant`; expected one of header, \
             client, path_segment, query, cookie, component",
        ],
    );
    // What is missing beside it is.
    refused(
        &of("retry", "delay = { componnet = \"a\" }"),
        &[
            "x.toml:6: policies.p.delay.componnet: unknown key `componnet`, expected `component` \
             or `own`",
            "x.toml:6: policies.p.delay: missing key `component`",
        ],
    );
}

#[test]
fn every_table_of_a_wrong_shape_is_named() {
    let text = "workers = \"two\"\n[policies.a]\nkind = \"timeout\"\nlimit = 3\n[policies.b]\n\
                kind = \"retry\"\nmax = 1\n\
                [policies.c]\n[policies.d]\nkind = \"teapot\"\n[components.e]\n[admin]\n\
                listen = \"localhost\"\n[typo]\n";
    let errors = read(text).unwrap_err();
    let places: Vec<&str> = errors.iter().map(|error| error.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        places,
        [
            "listen",
            "routes",
            "workers",
            "policies.a.limit",
            "policies.b.max",
            "policies.c",
            "policies.d.kind",
            "components.e",
            "admin.listen",
            "typo",
        ]
    );
    let unknown = "x.toml:7: policies.b.max: unknown key `max`; expected one of handle_if, ";
    assert!(errors[4].starts_with(unknown), "{}", errors[4]);
    assert_eq!(
        errors[6],
        "x.toml:10: policies.d.kind: unknown kind `teapot`; expected one of timeout, retry, \
         circuit-breaker, fallback, adaptive-limiter, adaptive-throttler, bulkhead, hedge, \
         rate-limiter, cache"
    );
}

#[test]
fn a_path_that_no_request_has_is_refused_and_a_spelling_is_none_of_its_own() {
    let routed = |paths: &str, path: &str| {
        let route = format!("[[routes]]\nupstream = \"http://b\"\npath = \"{path}\"");
        format!("listen = \"127.0.0.1:0\"\n[listener]\npaths = \"{paths}\"\n{route}\n{ROUTE}")
    };
    for (paths, path, why) in [
        (
            "strict",
            "/a/%2e%2e/b",
            "no request has the path `/a/%2e%2e/b`: those with a segment `.` or `..` are refused \
             (`paths = \"strict\"`)",
        ),
        (
            "strict",
            "/a;v=1",
            "leave out what follows the `;` of `/a;v=1`: it does not count in the paths of \
             requests (`paths = \"strict\"`)",
        ),
        (
            "as-is",
            "/ä",
            "no request has the path `/ä` as it stands: write it encoded, such as `%C3%A4` \
             (`paths = \"as-is\"`)",
        ),
    ] {
        refused(&routed(paths, path), &[&format!("x.toml:6: routes[0].path: {why}")]);
    }
    let twice = format!("{}path = \"/%62//\"\n", routed("strict", "/b"));
    refused(&twice, &["x.toml:7: routes[1]: takes the same requests as routes[0]: `/b`"]);
    for (paths, path) in [("strict", "/ä"), ("as-is", "/a;v=1"), ("as-is", "/a/../b")] {
        assert!(read(&routed(paths, path)).is_ok(), "{paths} {path}");
    }
}

#[test]
fn impossible_values_are_refused_with_their_bounds() {
    let text = "workers = 0\n[listener]\nheader_timeout = \"0s\"\nmax_header = \"1KiB\"\n\
                [components.c]\nfile = \"c\"\nmemory = \"1\"";
    refused(
        &around(text),
        &[
            "x.toml:2: workers: must be from 1 to 1024, is 0",
            "x.toml:4: listener.header_timeout: must be at least 1ms, is 0s",
            "x.toml:5: listener.max_header: must be from 8KiB to 1MiB, is 1KiB",
            "x.toml:8: components.c.memory: must be from 64KiB to 4GiB, is 1B",
        ],
    );
    refused(
        &around("[log]\nlevel = \"loud\""),
        &["x.toml:3: log.level: unknown value `loud`; expected one of debug, info, warn, error"],
    );
    refused(&around("[listener]\npaths = 3"), &["x.toml:3: listener.paths: expected a string"]);
    refused(
        &around("[policies.a]\nkind = \"retry\"\njitter = \"ful\""),
        &["x.toml:4: policies.a.jitter: expected \"full\", a duration such as \"50ms\", or a \
           factor from 0 to 1, found `ful`"],
    );
    let long = format!("/{}", "x".repeat(108));
    refused(
        &around(&format!("[admin]\nlisten = \"unix:{long}\"")),
        &[&format!("x.toml:3: admin.listen: the path of a Unix socket is too long: `{long}`")],
    );
    for path in ["", "/run/\\u0000x"] {
        let errors = read(&around(&format!("[admin]\nlisten = \"unix:{path}\""))).unwrap_err();
        let expected = "x.toml:3: admin.listen: expected an IP address with a port or `unix:/path`";
        assert!(matches!(&errors[..], [error] if error.starts_with(expected)), "{errors:?}");
    }
    refused(
        &around("[policies.a]\nkind = \"timeout\"\nlimit = \"3\""),
        &["x.toml:4: policies.a.limit: expected a duration such as \"250ms\", found `3`"],
    );
    refused(
        &around("[policies.\"a b\"]\nkind = \"retry\""),
        &["x.toml:2: policies.a b: a name has letters, digits, `-` and `_`"],
    );
}

#[test]
fn a_route_of_a_wrong_shape_does_not_move_the_others() {
    let text =
        "[[routes]]\nupstream = 3\n[[routes]]\nupstream = \"http://b\"\nmax_replay_body = \"1GiB\"";
    let errors = read(&around(text)).unwrap_err();
    assert_eq!(errors[1], "x.toml:6: routes[1].max_replay_body: must be at most 16MiB, is 1GiB");
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn what_follows_from_a_missing_variable_is_not_said_too() {
    refused(
        &around("workers = 0\n[admin]\nlisten = \"${UNSET}\"\nport = 1"),
        &[
            "x.toml:2: workers: must be from 1 to 1024, is 0",
            "x.toml:4: admin.listen: environment variable `UNSET` is not set; \
             `${UNSET:-default}` gives it a default",
            "x.toml:5: admin.port: unknown key `port`; expected one of listen, token_file, \
             hosts",
        ],
    );
}

#[test]
fn what_is_no_toml_is_said_with_its_line() {
    let errors =
        read("listen = \"127.0.0.1:0\"\nworkers = \n[policies.a]\n[policies.a]\n").unwrap_err();
    let lines: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["x.toml:2", "x.toml:4"], "{errors:?}");
    assert!(errors[1].contains("duplicate key"), "{errors:?}");
}

#[test]
fn variables_are_expanded_inside_strings_only() {
    let text = |listen: &str| {
        format!(
            "listen = \"{listen}\"\n[[routes]]\nname = \"$${{PORT}} $5 $\"\nupstream = \"http://b\""
        )
    };
    let config = read(&text("127.0.0.1:${PORT}")).unwrap();
    assert_eq!(config.listen.port(), 3002);
    assert_eq!(config.routes[&0].name.as_deref(), Some("${PORT} $5 $"));
    assert_eq!(read(&text("127.0.0.1:${EMPTY:-1}")).unwrap().listen.port(), 1, "as in a shell");
    assert_eq!(read(&text("${UNSET:-127.0.0.1:2}")).unwrap().listen.port(), 2);
    refused(
        &text("${UNSET}"),
        &["x.toml:1: listen: environment variable `UNSET` is not set; `${UNSET:-default}` gives \
             it a default"],
    );
    refused(
        &text("${PORT"),
        &["x.toml:1: listen: `${` without `}`; write `$${` for a literal one"],
    );
}

#[test]
fn a_variable_by_itself_is_a_number_or_a_boolean_where_that_is_expected() {
    let text = "listen = \"127.0.0.1:0\"\nworkers = \"${TWO}\"\n\
                log = { access = \"${NO:-false}\" }\n\
                [listener]\nmax_requests = \"${UNSET:-7}\"\nretry_after_jitter = \"${TENTH}\"\n\
                proxy_protocol = \"${YES}\"\ntrusted = [\"::1\"]\n\
                [policies.a]\nkind = \"retry\"\nmax_retries = \"${TWO}\"\njitter = \"${TENTH}\"\n\
                backoff = { factor = \"${TWO}\" }\nhandle_if = { status = [\"${UNSET:-503}\"] }\n\
                [components.c]\nfile = \"c.wasm\"\nprobe = \"${NO:-false}\"\n\
                settings = { two = \"${TWO}\", yes = \"${YES}\" }\n\
                [upstreams.b]\nendpoints = [{ url = \"http://b\", weight = \"${TWO}\" }]\n\
                [[routes]]\nname = \"${TWO}\"\nupstream = \"b\"\npolicies = [\"a\"]\n";
    let config = read(text).unwrap();
    assert_eq!((config.workers, config.log.access), (Some(2), false));
    let listener = &config.listener;
    assert_eq!((listener.max_requests, listener.retry_after_jitter), (Some(7), 0.1));
    assert!(listener.proxy_protocol);
    assert_eq!(config.routes[&0].name.as_deref(), Some("2"), "a string stays one");
    let component = &config.components["c"];
    assert_eq!((component.probe, &*component.settings["two"]), (false, "2"));

    for (wrong, says) in [
        ("workers = \"${WORD}\"", "expected a whole number of at least 0, found `\"two\"`"),
        ("workers = \"1${TWO}\"", "expected a whole number of at least 0, found `\"12\"`"),
        ("workers = \"${TWO}${TWO}\"", "expected a whole number of at least 0, found `\"22\"`"),
        ("workers = \"2\"", "expected a whole number of at least 0, found `\"2\"`"),
        ("workers = \"${TENTH}\"", "expected a whole number of at least 0, found `0.1`"),
        ("workers = \"${PORT}\"", "must be from 1 to 1024, is 3002"),
        ("log = { access = \"${TWO}\" }", "expected true or false, found `2`"),
        (
            "policies.a = { kind = \"timeout\", limit = \"${TWO}\" }",
            "expected a duration such as \"250ms\", found `2`",
        ),
    ] {
        let errors = read(&around(wrong)).unwrap_err();
        assert!(errors.len() == 1 && errors[0].ends_with(says), "{errors:?}");
    }
}

#[test]
fn what_was_expected_is_said_in_plain_words() {
    for (wrong, says) in [
        (
            "[policies.a]\nkind = \"retry\"\nmax_retries = \"two\"",
            "expected a whole number, found `\"two\"`",
        ),
        (
            "[listener]\nmax_connections = \"2\"",
            "expected a whole number of at least 0, found `\"2\"`",
        ),
        ("[log]\naccess = \"true\"", "expected true or false, found `\"true\"`"),
        ("[listener]\nmax_connections = -1", "expected a whole number of at least 0, found `-1`"),
        ("[policies.a]\nkind = \"retry\"\nhandle_if = 3", "expected a table, found `3`"),
        ("[policies.a]\nkind = \"retry\"\nmethods = {}", "expected a list, found a table"),
        (
            "[listener]\nmax_body = \"64 parsecs\"",
            "expected a size such as \"64KiB\", found `64 parsecs`",
        ),
        ("[log]\naccess = 1.5", "expected true or false, found `1.5`"),
        ("[listener]\nmax_body = true", "expected a size such as \"64KiB\", found `true`"),
    ] {
        let errors = read(&around(wrong)).unwrap_err();
        assert!(errors.len() == 1 && errors[0].ends_with(says), "{errors:?}");
    }
}

#[test]
fn of_a_long_value_its_beginning_is_said_whatever_its_key() {
    let (long, shown) = ("ä".repeat(10_000), "ä".repeat(50));
    for wrong in [
        "workers = \"LONG\"",
        "\"LONG\" = 1",
        "admin = { listen = \"LONG\" }",
        "log = { level = \"LONG\" }",
        "log = { level = \"LONG\\nLONG\" }",
        "log = { access = \"LONG\" }",
        "listener = { max_body = \"LONG\" }",
        "listener = { trusted = [\"LONG\"] }",
        "upstreams.b = { endpoints = [\"LONG\"] }",
        "upstreams.b = { endpoints = [\"http://b\"], balance = \"LONG\" }",
        "policies.a = { kind = \"LONG\" }",
        "policies.a = { kind = \"timeout\", limit = \"LONG\" }",
        "policies.a = { kind = \"timeout\", limit = \"1s\", \"LONG\" = 1 }",
        "policies.a = { kind = \"retry\", max_retries = \"LONG\" }",
        "policies.a = { kind = \"retry\", methods = [\"LONG\"] }",
        "policies.a = { kind = \"retry\", handle_if = { status = [\"LONG\"] } }",
        "policies.a = { kind = \"retry\", handle_if = { component = \"LONG\" } }",
        "policies.a = { kind = \"retry\", handle_if = \"LONG\" }",
        "components.c = { file = \"c.wasm\", memory = \"LONG\" }",
        "components.c = { file = \"c.wasm\", on_error = \"LONG\" }",
        "[[routes]]\npath = \"LONG\"\nupstream = \"http://b\"",
        "[[routes]]\npath = \"/b\"\nupstream = \"LONG\"",
        "[[routes]]\npath = \"/b\"\nupstream = \"http://b\"\npolicies = [\"LONG\"]",
        "[[routes]]\npath = \"/b\"\nupstream = \"${LONG}\"",
        "[policies.a]\n\"LONG\" = 1\n\"LONG\" = 1",
    ] {
        let errors = read(&around(&wrong.replace("LONG", &long))).expect_err(wrong).join("\n");
        assert!(errors.contains(&shown), "{wrong}: {errors}");
        assert!(errors.chars().count() < 1_000, "{wrong}: {errors}");
    }
}

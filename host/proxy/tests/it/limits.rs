//! Every key of the configuration with what is refused: a value that can't be meant is an error
//! that names the key, its bounds and what was found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fusebox_dev::Ran;

use crate::cli::{complaints, config, directory};
use crate::support::fusebox;

/// A table of the file: where `KEY` stands, a key is put in.
struct Table {
    path: &'static str,
    text: &'static str,
    keys: &'static [Key],
}

struct Key {
    name: &'static str,
    /// Values that are refused, with what is said of each.
    refused: &'static [(&'static str, &'static str)],
    /// The outermost that are taken, and what else might be doubted.
    taken: &'static [&'static str],
}

const fn key(
    name: &'static str,
    refused: &'static [(&'static str, &'static str)],
    taken: &'static [&'static str],
) -> Key {
    Key { name, refused, taken }
}

/// A time limit, of which zero and less than a timer can tell make no sense.
const fn time(name: &'static str) -> Key {
    key(
        name,
        &[
            ("'0s'", "must be at least 1ms, is 0s"),
            ("'999us'", "must be at least 1ms, is 999us"),
            ("'10years 1month'", "must be at most 10 years, is `10years 1month`"),
            (
                "'99999999999999999999s'",
                "expected a duration such as \"250ms\", found `99999999999999999999s`",
            ),
            ("'-1s'", "expected a duration such as \"250ms\", found `-1s`"),
            ("5", "expected a duration such as \"250ms\", found `5`"),
        ],
        &["'1ms'", "'10years'"],
    )
}

const HEAD: Key = key(
    "max_header",
    &[
        ("0", "must be from 8KiB to 1MiB, is 0B"),
        ("'8191B'", "must be from 8KiB to 1MiB, is 8191B"),
        ("'2MiB'", "must be from 8KiB to 1MiB, is 2MiB"),
        ("-1", "expected a size such as \"64KiB\", found `-1`"),
    ],
    &["'8KiB'", "'1MiB'"],
);

const OWN_HEADER: &[(&str, &str)] = &[
    ("'host'", "expected the name of a header such as \"x-priority\", found `host`"),
    (
        "'x-forwarded-for'",
        "expected the name of a header such as \"x-priority\", found `x-forwarded-for`",
    ),
    ("'x a'", "expected the name of a header such as \"x-priority\", found `x a`"),
];

const CLASS: &[(&str, &str)] = &[
    (
        "'urgent'",
        "expected one of very-low, low, medium, high, very-high, or 0 to 4, found `urgent`",
    ),
    ("5", "expected one of very-low, low, medium, high, very-high, or 0 to 4, found `5`"),
    ("-1", "expected one of very-low, low, medium, high, very-high, or 0 to 4, found `-1`"),
];

const COUNT: &[(&str, &str)] = &[
    ("0", "must be from 1 to 1000000, is 0"),
    ("1000001", "must be from 1 to 1000000, is 1000001"),
];

const UPSTREAM: [Key; 16] = [
    key(
        "protocol",
        &[("'http3'", "unknown value `http3`; expected one of auto, http1, http2")],
        &["'auto'", "'http1'", "'http2'"],
    ),
    key(
        "forward_deadline",
        &[("'prefer'", "expected a list, found `\"prefer\"`")],
        &["[]", "['prefer']"],
    ),
    key(
        "deadline_margin",
        &[("'-1s'", "expected a duration such as \"250ms\", found `-1s`")],
        &["'0s'", "'1s'"],
    ),
    key("host", &[("'b'", "unknown value `b`, expected `client` or `upstream`")], &["'upstream'"]),
    key("envoy_attempt_count", &[("1", "expected true or false, found `1`")], &["true", "false"]),
    time("connect_timeout"),
    time("response_timeout"),
    time("idle_timeout"),
    time("body_timeout"),
    key(
        "max_idle",
        &[
            ("1000001", "must be at most 1000000, is 1000001"),
            ("-1", "expected a whole number of at least 0, found `-1`"),
            ("1.5", "expected a whole number of at least 0, found `1.5`"),
        ],
        &["0", "1000000"],
    ),
    key("max_connections", COUNT, &["1", "1000000"]),
    key("max_in_flight", COUNT, &["1", "1000000"]),
    time("max_age"),
    key("max_requests", &[("0", "must be at least 1, is 0")], &["1", "1000000"]),
    HEAD,
    // What is in it has tests of its own.
    key("tls", &[("5", "expected a table, found `5`")], &[]),
];

/// One with a name has policies, too, and may have several endpoints.
const NAMED_UPSTREAM: [Key; 20] = {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = UPSTREAM;
    let policies = key("policies", &[("'retry'", "expected a list, found `\"retry\"`")], &["[]"]);
    let balance = key(
        "balance",
        &[
            (
                "'random'",
                "expected \"least-request\", \"round-robin\" or a table such as \
                 { hash = { header = \"x-user\" } }, found `\"random\"`",
            ),
            (
                "1",
                "expected \"least-request\", \"round-robin\" or a table such as \
                 { hash = { header = \"x-user\" } }, found `1`",
            ),
        ],
        &["'least-request'", "'round-robin'", "{ hash = { client = true } }"],
    );
    let health = key("health", &[("5", "expected a table, found `5`")], &["{}"]);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, policies, balance, time("slow_start"), health]
};

const HEALTH: &[Key] = &[
    key("consecutive", &[("1001", "must be at most 1000, is 1001")], &["0", "1000"]),
    // More than `max` is another mistake.
    key("base", &[("'0s'", "must be at least 1ms, is 0s")], &["'1ms'", "'5m'"]),
    key("max", &[("'0s'", "must be at least 1ms, is 0s")], &["'5s'", "'1h'"]),
    key("max_ejection_percent", &[("101", "must be from 0 to 100, is 101")], &["0", "100"]),
    key(
        "path",
        &[
            ("'healthz'", "expected a path such as \"/healthz\", found `healthz`"),
            ("'/a b'", "expected a path such as \"/healthz\", found `/a b`"),
        ],
        &["'/healthz?full=1'"],
    ),
];

/// Those of checks.
const CHECKS: &[Key] = &[
    time("interval"),
    time("timeout"),
    key(
        "expect",
        &[("[]", "an empty list takes no answer"), ("'2xx'", "expected a list, found `\"2xx\"`")],
        &["['200']", "['2xx', '300-399']"],
    ),
];

const TABLES: &[Table] = &[
    Table {
        path: "listener",
        text: "[listener]\nKEY\n[[routes]]\nupstream = 'http://b'\n",
        keys: &[
            time("header_timeout"),
            time("idle_timeout"),
            time("body_timeout"),
            time("request_timeout"),
            // Any number of bytes is enough.
            key(
                "min_rate",
                &[
                    ("'2MiB'", "must be at most 1MiB, is 2MiB"),
                    ("-1", "expected a size such as \"64KiB\", found `-1`"),
                ],
                &["0", "'64B'", "'1MiB'"],
            ),
            key(
                "deadline_headers",
                &[("'prefer'", "expected a list, found `\"prefer\"`")],
                &["[]", "['grpc-timeout', 'prefer']"],
            ),
            time("max_deadline"),
            HEAD,
            key(
                "max_body",
                &[
                    ("'99999999EiB'", "must be less than 16EiB, is `99999999EiB`"),
                    ("'much'", "expected a size such as \"64KiB\", found `much`"),
                    ("-1", "expected a size such as \"64KiB\", found `-1`"),
                ],
                // No request may have a body.
                &["0", "'1PiB'"],
            ),
            key(
                "max_connections",
                &[
                    ("0", "must be from 1 to 1000000, is 0"),
                    ("1000001", "must be from 1 to 1000000, is 1000001"),
                ],
                &["1", "1000000"],
            ),
            key(
                "max_connections_per_address",
                &[("0", "must be from 1 to 1000000, is 0")],
                &["1", "10000"],
            ),
            key(
                "max_in_flight",
                &[
                    ("0", "must be from 1 to 1000000, is 0"),
                    ("1000001", "must be from 1 to 1000000, is 1000001"),
                ],
                &["1", "10000"],
            ),
            key("max_requests", &[("0", "must be at least 1, is 0")], &["1", "1000000"]),
            time("max_age"),
            // Nothing is kept.
            key(
                "max_replay_memory",
                &[("'much'", "expected a size such as \"64KiB\", found `much`")],
                &["0", "'1TiB'"],
            ),
            key(
                "trusted",
                &[("'10.0.0.0/8'", "expected a list, found `\"10.0.0.0/8\"`")],
                &["[]", "['0.0.0.0/0', '::1', '192.0.2.7']"],
            ),
            key(
                "forwarded",
                &[("'all'", "unknown value `all`; expected one of x-forwarded, both, standard")],
                &["'x-forwarded'", "'both'", "'standard'"],
            ),
            key(
                "paths",
                &[("'loose'", "unknown value `loose`, expected `strict` or `as-is`")],
                &["'strict'", "'as-is'"],
            ),
            // 0: exactly what is known.
            key(
                "retry_after_jitter",
                &[("1.5", "must be from 0 to 1, is 1.5"), ("-0.1", "must be from 0 to 1, is -0.1")],
                &["0", "0.2", "1"],
            ),
            key("tls", &[("5", "expected a table, found `5`")], &[]),
            key("proxy_protocol", &[("1", "expected true or false, found `1`")], &["false"]),
            // They are cut at once.
            key(
                "drain_timeout",
                &[("'11years'", "must be at most 10 years, is `11years`")],
                &["'0s'", "'10years'"],
            ),
        ],
    },
    Table {
        path: "priority",
        text: "[priority]\nKEY\n[[routes]]\nupstream = 'http://b'\n",
        keys: &[
            key("header", OWN_HEADER, &["'x-priority'", "'X-Fusebox-Priority'"]),
            key("level_header", OWN_HEADER, &["'x-level'"]),
            key("default", CLASS, &["'low'", "0"]),
            key(
                "user",
                &[("{ component = 'c' }", "a component can't be asked here")],
                &[
                    "{ header = 'x-user' }",
                    "{ client = true }",
                    "[{ header = 'a' }, { query = 'b' }]",
                ],
            ),
            key("max_users", &[("5", "needs a `user`")], &[]),
        ],
    },
    Table {
        path: "priority",
        text: "[priority]\nuser = { client = true }\nKEY\n[[routes]]\nupstream = 'http://b'\n",
        keys: &[key(
            "max_users",
            &[
                ("0", "must be from 1 to 100000, is 0"),
                ("100001", "must be from 1 to 100000, is 100001"),
                ("'many'", "expected a whole number of at least 0, found `\"many\"`"),
            ],
            &["1", "100000"],
        )],
    },
    Table {
        path: "admin",
        text: "[[routes]]\nupstream = 'http://b'\n[admin]\nlisten = '127.0.0.1:0'\nKEY\n",
        keys: &[
            key("token_file", &[("''", "must not be empty")], &["'fusebox.toml'"]),
            key("hosts", &[("'b'", "expected a list, found `\"b\"`")], &["[]", "['b.example']"]),
        ],
    },
    Table {
        path: "log",
        text: "[log]\nKEY\n[[routes]]\nupstream = 'http://b'\n",
        keys: &[
            key(
                "level",
                &[("'loud'", "unknown value `loud`; expected one of debug, info, warn, error")],
                &["'debug'"],
            ),
            key("access", &[("1", "expected true or false, found `1`")], &["false"]),
        ],
    },
    Table {
        path: "code_cache",
        text: "[code_cache]\nKEY\n[[routes]]\nupstream = 'http://b'\n",
        keys: &[
            key("directory", &[("''", "must not be empty")], &["'cache'"]),
            key("enabled", &[("0", "expected true or false, found `0`")], &["false"]),
            key(
                "max_size",
                &[
                    ("0", "must be at least 1MiB, is 0B"),
                    ("'1023KiB'", "must be at least 1MiB, is 1023KiB"),
                ],
                &["'1MiB'", "'1EiB'"],
            ),
        ],
    },
    Table {
        path: "upstreams.b",
        text: "[upstreams.b]\nendpoints = ['http://b', 'http://c']\nKEY\n\
               [[routes]]\nupstream = 'b'\n",
        keys: &NAMED_UPSTREAM,
    },
    Table {
        path: "upstreams.b.health",
        text: "[upstreams.b]\nendpoints = ['http://b', 'http://c']\n[upstreams.b.health]\nKEY\n\
               [[routes]]\nupstream = 'b'\n",
        keys: HEALTH,
    },
    Table {
        path: "upstreams.b.health",
        text: "[upstreams.b]\nendpoints = ['http://b', 'http://c']\nprotocol = 'http2'\n\
               [upstreams.b.health]\nKEY\n\
               [[routes]]\nupstream = 'b'\n",
        keys: &[key(
            "grpc",
            &[(
                "'a b'",
                "expected the name of a service such as \"example.Orders\", or \"\" for all, \
                 found `a b`",
            )],
            // The whole server.
            &["''", "'example.v1.Orders'"],
        )],
    },
    Table {
        path: "upstreams.b.health",
        text: "[upstreams.b]\nendpoints = ['http://b', 'http://c']\n\
               [upstreams.b.health]\npath = '/'\nKEY\n\
               [[routes]]\nupstream = 'b'\n",
        keys: CHECKS,
    },
    Table {
        path: "routes[0].upstream",
        text: "[[routes]]\n[routes.upstream]\nurl = 'http://b'\nKEY\n",
        keys: &UPSTREAM,
    },
    Table {
        path: "routes[0]",
        text: "[[routes]]\nupstream = 'http://b'\nKEY\n",
        keys: &[
            key(
                "path",
                &[
                    ("''", "expected a path such as \"/api\", found ``"),
                    ("'api'", "expected a path such as \"/api\", found `api`"),
                    ("'/a?b'", "expected a path such as \"/api\", found `/a?b`"),
                ],
                &["'/'", "'/a//b/'"],
            ),
            key(
                "host",
                &[
                    (
                        "'b:80'",
                        "expected a host such as \"b.example\" or \"[::1]\", without port or \
                         wildcard, found `b:80`",
                    ),
                    (
                        "'*.example'",
                        "expected a host such as \"b.example\" or \"[::1]\", without port or \
                         wildcard, found `*.example`",
                    ),
                ],
                &["'[::1]'", "'B.example'"],
            ),
            // What is taken needs a `client_ca`.
            key(
                "client_certificate",
                &[
                    ("[]", "an empty list takes no request; leave it out to take any"),
                    (
                        "['CN=a']",
                        "needs `client_ca` in `[listener.tls]`: clients are asked for none",
                    ),
                ],
                &[],
            ),
            // `true` is for upstreams over HTTP/2.
            key("grpc", &[("1", "expected true or false, found `1`")], &["false"]),
            key(
                "methods",
                &[
                    ("[]", "an empty list takes no request; leave it out to take any"),
                    ("'GET'", "expected a list, found `\"GET\"`"),
                ],
                &["['GET', 'X-OWN']"],
            ),
            key(
                "name",
                &[
                    ("''", "must have 1 to 64 characters, has 0"),
                    ("'none'", "`none` is the name for requests that no route takes"),
                ],
                &["'ä b'"],
            ),
            key("policies", &[("'retry'", "expected a list, found `\"retry\"`")], &["[]"]),
            key(
                "max_replay_body",
                &[("'17MiB'", "must be at most 16MiB, is 17MiB")],
                // A request with a body gets one attempt.
                &["0", "'16MiB'"],
            ),
            key(
                "upgrades",
                &[("'websocket'", "expected a list, found `\"websocket\"`")],
                &["[]", "['websocket', 'SPDY']"],
            ),
            time("grpc_idle_timeout"),
            time("tunnel_idle_timeout"),
            key("priority", CLASS, &["'very-low'", "4"]),
        ],
    },
];

#[test]
fn what_can_not_be_meant_is_refused_and_the_rest_is_taken() {
    let directory = directory("");
    let file = directory.path().join("fusebox.toml");
    // It is a token file, too.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a file");
    for Table { path, text, keys } in TABLES {
        for Key { name, refused, taken } in *keys {
            let text = |value: &str| config(&text.replace("KEY", &format!("{name} = {value}")));
            for (value, says) in *refused {
                fs::write(&file, text(value)).expect("a file");
                let line = 1 + text(value).lines().position(|line| line.starts_with(name)).unwrap();
                let expected = format!("fusebox.toml:{line}: {path}.{name}: {says}");
                assert_eq!(complaints(directory.path()), [expected]);
            }
            for value in *taken {
                fs::write(&file, text(value)).expect("a file");
                let Ran { code, error, .. } = fusebox(directory.path(), &["check"]);
                assert_eq!((code, &*error), (Some(0), ""), "{path}.{name} = {value}");
            }
        }
    }
}

/// A new key is decided about here.
#[test]
fn every_key_is_decided_about() {
    // Keys that the tests above can't put in, since they are there already.
    let required = BTreeSet::from(["listen", "url", "endpoints", "upstream"]);
    for Table { path, text, .. } in TABLES {
        let directory = directory(&config(&text.replace("KEY", "unknown_key = 1")));
        let said = complaints(directory.path()).join("\n");
        let known = said.split("expected one of ").nth(1).expect("a list of keys").split(", ");
        let same = TABLES.iter().filter(|table| table.path == *path);
        let decided = same.flat_map(|table| table.keys).map(|key| key.name);
        let known: BTreeSet<&str> = known.filter(|key| !required.contains(key)).collect();
        assert_eq!(known, decided.collect(), "{path}");
    }
}

#[test]
fn workers_are_a_sensible_number() {
    for (workers, says) in [
        ("0", "must be from 1 to 1024, is 0"),
        ("1025", "must be from 1 to 1024, is 1025"),
        ("-1", "expected a whole number of at least 0, found `-1`"),
        ("'two'", "expected a whole number of at least 0, found `\"two\"`"),
    ] {
        let text = format!("workers = {workers}\n[[routes]]\nupstream = 'http://b'\n");
        let expected = format!("fusebox.toml:3: workers: {says}");
        assert_eq!(complaints(directory(&config(&text)).path()), [expected]);
    }
}

#[test]
fn a_listener_has_an_address_of_its_own() {
    let text = |listen: &str, admin: &str| {
        format!(
            "listen = '{listen}'\nadmin = {{ listen = '{admin}' }}\n[[routes]]\n\
             upstream = 'http://b'\n"
        )
    };
    for (listen, admin) in [
        ("127.0.0.1:3002", "127.0.0.1:3002"),
        ("0.0.0.0:3002", "127.0.0.1:3002"),
        ("127.0.0.1:3002", "[::]:3002"),
    ] {
        let said = complaints(directory(&text(listen, admin)).path());
        let expected = format!(
            "fusebox.toml:2: admin.listen: must differ from `listen`, which is `{listen}`, is \
             `{admin}`"
        );
        assert_eq!(said, [expected]);
    }
    for (listen, admin) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:3002", "127.0.0.2:3002"),
        ("[::1]:3002", "[::1]:9901"),
    ] {
        let ran = fusebox(directory(&text(listen, admin)).path(), &["check"]);
        assert_eq!((ran.code, &*ran.error), (Some(0), ""), "{listen} {admin}");
    }
    for address in ["localhost:1", "127.0.0.1", "127.0.0.1:65536", "::1:80", ":80", "1.2.3.400:1"] {
        let said = complaints(directory(&text(address, "127.0.0.1:1")).path());
        let expected = format!(
            "fusebox.toml:1: listen: expected an IP address with a port, such as \
             \"127.0.0.1:3002\" or \"[::1]:3002\", found `{address}`"
        );
        assert_eq!(said, [expected]);
    }
}

#[test]
fn a_trusted_network_has_an_address_and_a_length() {
    for network in ["localhost", "10.0.0.0/33", "10.0.0/8", "", "::1/129", "10.0.0.1:80"] {
        let text = format!(
            "[listener]\ntrusted = ['::1', '{network}']\n[[routes]]\nupstream = 'http://b'\n"
        );
        let expected = format!(
            "fusebox.toml:4: listener.trusted[1]: expected a network such as \"10.0.0.0/8\" or \
             \"::1\", found `{network}`"
        );
        assert_eq!(complaints(directory(&config(&text)).path()), [expected]);
    }
}

#[test]
fn class_and_level_have_headers_of_their_own() {
    let text = "[priority]\nheader = 'x-level'\nlevel_header = 'X-Level'\n\
                [[routes]]\nupstream = 'http://b'\n";
    let expected = "fusebox.toml:5: priority.level_header: must differ from `header`, is `x-level`";
    assert_eq!(complaints(directory(&config(text)).path()), [expected]);
}

#[test]
fn limits_of_clients_that_are_never_reached_are_warnings() {
    let warnings = |keys: &str| {
        let text = format!("[listener]\n{keys}\n[[routes]]\nupstream = 'http://b'\n");
        let Ran { code, error, .. } = fusebox(directory(&config(&text)).path(), &["check"]);
        assert_eq!(code, Some(0), "{error}");
        error
    };
    let never = |keys: &str, warning: &str| {
        let expected = format!("warning: fusebox.toml:5: listener.{warning}\n");
        assert_eq!(warnings(&format!("max_connections = 100\n{keys}")), expected, "{keys}");
    };
    never("max_in_flight = 101", "max_in_flight: is never reached, since `max_connections` is 100");
    never(
        "max_connections_per_address = 101",
        "max_connections_per_address: is never reached, since `max_connections` is 100",
    );
    never(
        "header_timeout = '9s'\nrequest_timeout = '8s'",
        "header_timeout: is never reached, since `request_timeout` is 8s",
    );
    for keys in [
        "max_in_flight = 100\nmax_connections = 100\nmax_connections_per_address = 100",
        "header_timeout = '9s'\nrequest_timeout = '9s'",
        // A default is not what was meant.
        "request_timeout = '5s'",
    ] {
        assert_eq!(warnings(keys), "", "{keys}");
    }
}

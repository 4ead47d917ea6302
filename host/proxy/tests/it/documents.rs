//! The documents: their configurations pass `fusebox check`, and every key and metric is in them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fusebox_dev::{
    Origin, Ran, answer, get, handle_if, is_status, key, ok, responds, waits, wat_component,
};

use crate::cli::{complaints, directory};
use crate::support::{Proxy, fusebox, verdict};

/// One table of each kind but policies, each with a key that it does not have.
const UNKNOWN_KEYS: &str = r#"
listen = "127.0.0.1:0"
unknown = 1
[listener]
unknown = 1
[listener.tls]
certificates = [{ cert = "b.pem", key = "b.key", unknown = 1 }]
unknown = 1
[admin]
listen = "127.0.0.1:0"
unknown = 1
[log]
unknown = 1
[priority]
unknown = 1
[code_cache]
unknown = 1
[components.c]
file = "c.wasm"
unknown = 1
[budgets.b]
unknown = 1
[upstreams.b]
endpoints = ["http://b"]
unknown = 1
[upstreams.s]
endpoints = ["https://s"]
tls = { unknown = 1 }
[[routes]]
upstream = "http://b"
unknown = 1
[[routes]]
path = "/table"
upstream = { url = "http://b", unknown = 1 }
"#;

/// A policy of each kind, a component, and a limit that has metrics.
const EVERY_KIND: &str = r#"
[listener]
max_in_flight = 10
[components.c]
file = "c.wasm"
[policies.fallback]
kind = "fallback"
handle_if = { component = "c" }
respond = { component = "c" }
[policies.retry]
kind = "retry"
delay = "1ms"
[policies.breaker]
kind = "circuit-breaker"
[policies.hedge]
kind = "hedge"
delay = "10s"
[policies.limit]
kind = "timeout"
limit = "10s"
body_limit = "10m"
min_rate = "1B"
[policies.limiter]
kind = "adaptive-limiter"
[policies.throttler]
kind = "adaptive-throttler"
[policies.places]
kind = "bulkhead"
max_concurrency = 10
[policies.rate]
kind = "rate-limiter"
limit = 10
per = "1s"
[policies.keyed-breaker]
kind = "circuit-breaker"
key = { client = true }
[policies.keyed-throttler]
kind = "adaptive-throttler"
key = { client = true }
[policies.keyed-limiter]
kind = "adaptive-limiter"
key = { client = true }
[policies.keyed-places]
kind = "bulkhead"
max_concurrency = 10
key = { client = true }
[policies.keyed-rate]
kind = "rate-limiter"
limit = 10
per = "1s"
key = { client = true }
[policies.cache]
kind = "cache"
[[routes]]
upstream = "ORIGIN"
policies = ["cache", "fallback", "retry", "hedge", "breaker", "throttler", "limiter", "rate",
            "places", "limit", "keyed-breaker", "keyed-places", "keyed-rate", "keyed-throttler",
            "keyed-limiter"]
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Blocks of TOML that are whole configurations.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with("listen"))
}

#[test]
fn every_configuration_is_ok() {
    // It answers all that policies ask.
    let fields = [
        handle_if(&is_status(503)),
        responds(200, "later"),
        waits("(i32.const 5)"),
        key("(i32.const 96)"),
    ];
    let component = wat_component(&fields.concat());
    let policies = fs::read_dir(root().join("docs/policies")).expect("the pages");
    let mut pages: Vec<_> = policies
        .map(|page| {
            format!("docs/policies/{}", page.expect("a page").file_name().to_string_lossy())
        })
        .collect();
    pages.extend(["README.md", "docs/grpc.md", "docs/upstreams.md"].map(str::to_owned));
    assert!(pages.len() > 5, "{pages:?}");
    for page in pages {
        let text = document(&page);
        assert!(configurations(&text).count() > 0, "{page}");
        for configuration in configurations(&text) {
            let directory = directory(configuration);
            for line in configuration.lines() {
                let Some(file) = line.strip_prefix("file = \"").and_then(|it| it.split('"').next())
                else {
                    continue;
                };
                let file = directory.path().join(file);
                fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                fs::write(file, &component).expect("a file");
            }
            let Ran { code, out, error } = fusebox(directory.path(), &["check"]);
            assert_eq!(
                (code, verdict(&out), &*error),
                (Some(0), "fusebox.toml: ok", ""),
                "{page}: {configuration}"
            );
        }
    }
}

/// Every kind of policy, as the program names them.
fn kinds() -> Vec<String> {
    let config = "listen = '127.0.0.1:0'\n[policies.p]\nkind = 'unknown'\n\
        [[routes]]\nupstream = 'http://b'\n";
    let said = complaints(directory(config).path()).join("\n");
    let kinds = said.split("expected one of ").nth(1).unwrap_or_else(|| panic!("no kinds: {said}"));
    kinds.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_there() {
    let mut config = UNKNOWN_KEYS.to_owned();
    for kind in kinds() {
        config += &format!("[policies.{kind}]\nkind = '{kind}'\nunknown = 1\n");
    }
    let mut said = complaints(directory(&config).path());
    said.retain(|line| !line.contains(": missing key") && !line.contains("can't be read"));
    assert_eq!(said.len(), config.matches("unknown = 1").count(), "{said:#?}");
    for line in said {
        let (place, expected) = line
            .split_once(", expected ")
            .or_else(|| line.split_once("; expected "))
            .unwrap_or_else(|| panic!("no keys: {line}"));
        let kind = place.split_once("policies.").and_then(|(_, rest)| rest.split('.').next());
        let page = kind.map_or("docs/reference.md".to_owned(), |kind| {
            let link = format!("](policies/{kind}.md#keys)");
            assert!(document("docs/reference.md").contains(&link), "no `{link}`");
            format!("docs/policies/{kind}.md")
        });
        let text = document(&page);
        let words = expected.split([' ', ',']).map(|word| word.trim_matches('`'));
        for key in words.filter(|word| !["", "one", "of", "or"].contains(word)) {
            // The tables that hold others have sections.
            let (row, section) = (format!("| `{key}` |"), format!("[{key}"));
            let is_there = text.lines().any(|line| {
                line.starts_with(&row)
                    || line.starts_with('#') && line.replace('`', "").contains(&section)
            });
            assert!(is_there, "{page} says nothing of `{key}`: {line}");
        }
    }
}

#[test]
fn every_metric_is_there() {
    let origin = Origin::answering([answer(503, "", ""), answer(200, "", "")]);
    let component = wat_component(&format!("{} {}", handle_if("(i32.const 0)"), responds(200, "")));
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &component)], EVERY_KIND);
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    proxy.story("1");
    let reference = document("docs/reference.md");
    let shown = proxy.admin("GET /metrics");
    let names = shown.text().lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = names.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(reference.contains(&format!("`{name}`")), "`{name}` is not in the reference");
    }
}

/// Each says what it is, and no other says the same.
#[test]
fn every_metric_says_what_it_is() {
    let origin = Origin::answering([ok("")]);
    let component = wat_component(&format!("{} {}", handle_if("(i32.const 0)"), responds(200, "")));
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &component)], EVERY_KIND);
    let shown = proxy.admin("GET /metrics");
    let helps =
        shown.text().lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let mut known = HashMap::new();
    for (name, help) in helps {
        let is_sentence = help
            .starts_with(|first: char| first.is_ascii_uppercase() || first == '1')
            && help.ends_with('.')
            && help.split(' ').count() > 1
            && !help.contains('_');
        // The configuration's own key.
        assert!(is_sentence || help.contains("abort_if") || help.contains("on_error"), "{help}");
        if let Some(other) = known.insert(help, name) {
            panic!("{name} and {other} say the same: {help}");
        }
    }
    assert!(known.len() > 20, "{known:?}");
}

/// The names of tests in a column of a Markdown table: `file::test`, or `folder::file::test`.
fn named_tests(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|column| column.split('`').skip(1).step_by(2))
        .map(|name| name.rsplit_once("::").unwrap_or_else(|| panic!("`{name}` names no test")))
}

#[test]
fn every_incident_has_its_tests() {
    let page = document("docs/incidents.md");
    let mut known = 0;
    for (file, test) in named_tests(&page) {
        let within = file.replace("::", "/");
        let places = ["proxy", "resilience", "wasm"]
            .map(|part| root().join(format!("host/{part}/tests/it/{within}.rs")));
        let is_there = places.iter().any(|place| {
            let source = fs::read_to_string(place).unwrap_or_default();
            source.contains(&format!("fn {test}("))
        });
        assert!(is_there, "docs/incidents.md: there is no test `{file}::{test}`");
        known += 1;
    }
    assert!(known > 20, "the page names tests: {known}");
}

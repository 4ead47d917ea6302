//! Two configurations of a policy are the same if every key says the same: a policy of the same
//! configuration need not be made anew.

use std::collections::BTreeSet;

use fusebox_resilience::{
    AnyPolicyConfig, PolicyConfig, PolicyKind, ReadPolicyConfig, policy_kinds,
};

struct Text<'a> {
    text: &'a str,
    error: String,
}

impl ReadPolicyConfig for Text<'_> {
    fn read<C: PolicyConfig>(&mut self) -> Option<C> {
        toml::from_str(self.text).map_err(|error| self.error = error.to_string()).ok()
    }
}

fn read(kind: &str, text: &str) -> Result<Box<dyn AnyPolicyConfig>, String> {
    let mut reader = Text { text, error: String::new() };
    let kinds: Vec<PolicyKind<Text<'_>>> = policy_kinds();
    let kind = kinds.iter().find(|known| known.name == kind).expect("a kind");
    (kind.read)(&mut reader).ok_or(reader.error)
}

/// Each kind with what it requires, and another value for each of its keys.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("timeout", "limit = '1s'", &["limit = '2s'", "body_limit = '7s'", "min_rate = '7KiB'"]),
    (
        "retry",
        "",
        &[
            "handle_if = { status = ['503'] }",
            "max_retries = 3",
            "delay = '1s'",
            "backoff = { factor = 3.0 }",
            "random_delay = { min = '1s', max = '2s' }",
            "jitter = 0.5",
            "retry_after = false",
            "max_retry_after = '7s'",
            "max_duration = '7s'",
            "abort_if = { failure = ['timeout'] }",
            "return_last_failure = false",
            "methods = ['GET']",
            "retry_retried = true",
            "budget = 'b'",
        ],
    ),
    (
        "circuit-breaker",
        "",
        &[
            "handle_if = { component = 'a' }",
            "ignore_if = { status = [] }",
            "failure_threshold = 4",
            "failure_capacity = 7",
            "period = '7s'",
            "failure_rate = 0.7",
            "min_calls = 7",
            "slow_call = '7s'",
            "slow_call_rate = 0.7",
            "ramp = '7s'",
            "success_threshold = 7",
            "success_capacity = 7",
            "delay = '7s'",
            "delay_factor = 7.0",
            "max_delay = '7m'",
            "delay_jitter = 0.7",
            "retry_after = true",
            "trial_timeout = '7s'",
            "scope = 'endpoint'",
            "key = { client = true }",
            "max_keys = 7",
            "idle = '7s'",
        ],
    ),
    (
        "fallback",
        "respond = { status = 200 }",
        &["handle_if = {}", "respond = { status = 200, body = '' }"],
    ),
    (
        "adaptive-limiter",
        "",
        &[
            "overload_if = { status = ['503'] }",
            "min_limit = 7",
            "max_limit = 70",
            "initial_limit = 17",
            "max_limit_factor = 7.0",
            "window = { max = '7s' }",
            "min_samples = 7",
            "queue = { initial = 2, max = 3 }",
            "max_wait = '7s'",
            "until = 'body'",
            "key = { client = true }",
            "max_keys = 7",
            "idle = '7s'",
        ],
    ),
    (
        "adaptive-throttler",
        "",
        &[
            "handle_if = { status = ['503'] }",
            "failure_rate = 0.2",
            "min_calls = 7",
            "interval = '7s'",
            "max_rejection_rate = 0.7",
            "key = { client = true }",
            "max_keys = 7",
            "idle = '7s'",
        ],
    ),
    (
        "bulkhead",
        "max_concurrency = 1",
        &[
            "max_concurrency = 2",
            "max_wait = '1s'",
            "max_queue = 7",
            "until = 'head'",
            "key = { query = 't' }",
            "max_keys = 7",
            "idle = '7s'",
        ],
    ),
    (
        "hedge",
        "delay = '1s'",
        &[
            "handle_if = { status = ['503'] }",
            "cancel_if = { status = ['503'] }",
            "delay = '2s'",
            "delay_quantile = { quantile = 0.9 }",
            "max_hedges = 2",
            "methods = ['GET']",
            "budget = 'b'",
        ],
    ),
    (
        "rate-limiter",
        "limit = 1\nper = '1s'",
        &[
            "limit = 2",
            "per = '2s'",
            "burst = 2",
            "max_wait = '1s'",
            "max_queue = 7",
            "headers = true",
            "key = [{ header = 'x-tenant' }, { path_segment = 1 }]",
            "max_keys = 7",
            "idle = '7s'",
        ],
    ),
    (
        "cache",
        "",
        &[
            "max_size = '7MiB'",
            "max_entry = '7KiB'",
            "key = { client = true }",
            "default_ttl = '7s'",
            "stale_if_error = '7s'",
            "stale_while_revalidate = '7s'",
            "handle_if = {}",
            "collapse_wait = '7s'",
        ],
    ),
];

/// The file with one more key, or another value for a key that it has.
fn changed(file: &str, change: &str) -> String {
    let key = |line: &str| line.split(' ').next().map(str::to_owned);
    let kept = file.lines().filter(|line| key(line) != key(change));
    kept.chain([change]).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_configuration_is_the_same_if_every_key_is() {
    let names: Vec<_> = policy_kinds::<Text<'_>>().iter().map(|kind| kind.name).collect();
    assert_eq!(names, KINDS.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>());
    for (kind, file, changes) in KINDS {
        let one = read(kind, file).expect("it is right");
        assert!(one.is_same(&*read(kind, file).expect("it is right")), "{kind}");
        for change in *changes {
            let other = read(kind, &changed(file, change)).expect(change);
            assert!(!one.is_same(&*other) && !other.is_same(&*one), "{kind}: {change}");
        }
        for (other, file, _) in KINDS.iter().filter(|(other, ..)| other != kind) {
            let other = read(other, file).expect("it is right");
            assert!(!one.is_same(&*other), "{kind} and {}", other.kind());
        }
    }
}

#[test]
fn no_key_is_left_out_above() {
    for (kind, file, changes) in KINDS {
        let refused = read(kind, &changed(file, "unknown = 1")).map(drop).expect_err("is unknown");
        let known = refused.split("expected ").nth(1).expect("a list of keys");
        let known: BTreeSet<_> = known.split('`').skip(1).step_by(2).collect();
        let changed: BTreeSet<_> =
            changes.iter().filter_map(|change| change.split(' ').next()).collect();
        assert_eq!(changed, known, "{kind}");
    }
}

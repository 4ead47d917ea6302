//! The text of a scrape after what has happened.

mod by_thread;
mod of_process;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use fusebox_resilience::testing::{NoParts, call};
use fusebox_resilience::{
    AnyPolicyConfig, AttemptOutcome, BodyLimit, BudgetStatus, CircuitBreakerConfig,
    CircuitBreakerEvent, CircuitState, ComponentEvent, ComponentId, EndpointLimit, EndpointName,
    ErrorKind, FallbackConfig, FallbackEvent, Fault, HedgeConfig, HedgeEvent, LateFailureCause,
    NoHedge, NoRetry, Observers, PolicyConfig, RetryConfig, RetryEvent, Shown, ShownEndpoint,
    TimeoutConfig, TimeoutEvent,
};
use fusebox_wasm::{CallHistogram, ComponentStanding};

use super::*;

fn observe(metrics: &Metrics, request: Option<&Request>, policy: Option<&str>, kind: EventKind) {
    let (policy, kind) = (policy.map(Arc::from), &kind);
    let policy = policy.as_ref();
    metrics.observe(&Event {
        request,
        policy,
        decided_by: None,
        provenance: None,
        endpoint: None,
        kind,
    });
}

fn attempt(outcome: AttemptOutcome) -> EventKind {
    EventKind::Attempt(AttemptEvent::Finished {
        attempt: 1,
        outcome,
        elapsed: Duration::from_millis(3),
    })
}

fn finished(status: Option<u16>) -> EventKind {
    EventKind::Call(CallEvent::Finished {
        status,
        failure: None,
        grpc: None,
        error: None,
        detail: None,
        attempts: 1,
        end: None,
        is_cut: false,
        bytes: 1,
        received: 0,
        elapsed: Duration::from_millis(40),
    })
}

fn on_route(route: &str) -> Request {
    let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    let id = http::HeaderValue::from_static("r");
    Request::new(id, route.into(), head, std::time::UNIX_EPOCH)
}

/// The series of ours with their values, each checked for its form; zeros are left out.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(name.starts_with("fusebox_") || name.starts_with("process_"), "{line}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        assert!(all.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    all
}

fn counted(metrics: &Metrics, scrape: &Scrape) -> Vec<String> {
    let ours = |name: &str| {
        name.starts_with("fusebox_")
            && !name.contains("_duration_seconds")
            && !name.contains("queue_wait_seconds_bucket")
            && !name.contains("build_info")
    };
    series(&metrics.render(scrape))
        .into_iter()
        .filter(|(name, value)| ours(name) && *value != 0.0)
        .map(|(name, value)| format!("{} {value}", name.trim_start_matches("fusebox_")))
        .collect()
}

fn component() -> ComponentId {
    ComponentId { name: "service-b".into(), digest: "0a1b".into(), generation: 2 }
}

#[test]
fn an_endpoint_that_has_gone_leaves_no_series() {
    let metrics = Metrics::new();
    let of = |kind: EndpointEvent| observe(&metrics, None, None, kind.into());
    for endpoint in ["http://10.0.0.1", "http://10.0.0.2"] {
        let name = EndpointName { upstream: "b".into(), endpoint: endpoint.into() };
        of(EndpointEvent::Full { name, limit: EndpointLimit::InFlight, waited: Duration::ZERO });
    }
    of(EndpointEvent::Changed {
        upstream: "b".into(),
        added: Box::default(),
        removed: ["http://10.0.0.1".into()].into(),
        count: 1,
    });
    let labels = r#"upstream="b",endpoint="http://10.0.0.2",limit="max_in_flight""#;
    let left = format!("endpoint_full_total{{{labels}}} 1");
    assert_eq!(counted(&metrics, &Scrape::default()), [left]);
}

#[test]
fn events_are_counted() {
    let metrics = Metrics::new();
    let call = call("r", Observers::default());
    let of_policy = |policy, kind| observe(&metrics, Some(call.request()), Some(policy), kind);
    let own = |kind| observe(&metrics, Some(call.request()), None, kind);
    own(attempt(AttemptOutcome::Response(503)));
    own(attempt(AttemptOutcome::Response(200)));
    own(attempt(AttemptOutcome::Response(207)));
    own(attempt(AttemptOutcome::Response(799)));
    own(attempt(AttemptOutcome::Failure(ErrorKind::ConnectionRefused)));
    own(attempt(AttemptOutcome::Failure(ErrorKind::Internal)));
    own(attempt(AttemptOutcome::Failure(ErrorKind::RequestIncomplete)));
    own(attempt(AttemptOutcome::Cancelled));
    of_policy("retry", EventKind::Retry(RetryEvent::Scheduled { retry: 1, delay: Duration::ZERO }));
    of_policy("retry", EventKind::Retry(RetryEvent::Scheduled { retry: 2, delay: Duration::ZERO }));
    of_policy("retry", EventKind::Retry(RetryEvent::Exhausted { retries: 2 }));
    of_policy("retry", EventKind::Retry(RetryEvent::Aborted));
    of_policy("retry", EventKind::Retry(RetryEvent::Skipped { reason: NoRetry::Method }));
    of_policy("timeout", EventKind::Timeout(TimeoutEvent::Exceeded { limit: Duration::ZERO }));
    of_policy("timeout", EventKind::Timeout(TimeoutEvent::BodyCut { limit: BodyLimit::Rate }));
    of_policy(
        "breaker",
        EventKind::Call(CallEvent::Rejected { kind: ErrorKind::CircuitOpen, retry_after: None }),
    );
    let cause = LateFailureCause::Broken(ErrorKind::ConnectionTerminated);
    of_policy("breaker", EventKind::CircuitBreaker(CircuitBreakerEvent::FailedLate { cause }));
    of_policy(
        "fallback",
        EventKind::Fallback(FallbackEvent::Served { status: 200, component: None }),
    );
    of_policy("fallback", EventKind::Fallback(FallbackEvent::Declined));
    for waited in [Duration::from_millis(3), Duration::from_millis(4)] {
        of_policy("places", EventKind::Queue(QueueEvent::Joined { ahead: 1 }));
        of_policy("places", EventKind::Queue(QueueEvent::Admitted { waited }));
    }
    of_policy("hedge", HedgeEvent::Launched { hedge: 1, asked: Duration::ZERO }.into());
    of_policy("hedge", HedgeEvent::Won { hedge: 1 }.into());
    of_policy("hedge", HedgeEvent::Cancelled { hedge: 0 }.into());
    of_policy("hedge", HedgeEvent::Skipped { reason: NoHedge::Budget }.into());
    let opened = EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
        from: CircuitState::Closed,
        to: CircuitState::Open,
        delay: None,
        key: None,
        endpoint: None,
    });
    observe(&metrics, None, Some("breaker"), opened);
    let faulted = EventKind::Component(ComponentEvent::Faulted {
        component: component(),
        fault: Fault::Trap,
        detail: "x".into(),
    });
    observe(
        &metrics,
        None,
        None,
        EventKind::Component(ComponentEvent::Loaded { component: component(), replaced: None }),
    );
    of_policy("retry", faulted);
    of_policy(
        "retry",
        EventKind::Component(ComponentEvent::Printed { component: component(), line: "x".into() }),
    );
    let rejected = EventKind::Component(ComponentEvent::Rejected {
        name: "service-b".into(),
        digest: None,
        reason: "x".into(),
    });
    observe(&metrics, None, None, rejected);
    own(EventKind::Call(CallEvent::ResponseIncomplete { kind: ErrorKind::ConnectionTerminated }));
    own(finished(Some(200)));
    own(finished(Some(200)));
    own(finished(Some(503)));
    own(finished(Some(600)));
    own(finished(None));

    assert_eq!(
        counted(&metrics, &Scrape::default()),
        [
            r#"attempts_total{route="test",outcome="2xx"} 2"#,
            r#"attempts_total{route="test",outcome="5xx"} 1"#,
            r#"attempts_total{route="test",outcome="cancelled"} 1"#,
            r#"attempts_total{route="test",outcome="client"} 1"#,
            r#"attempts_total{route="test",outcome="connect"} 1"#,
            // A failure that is none of the upstream's is counted like a status that is none: 799
            // and an inner fault.
            r#"attempts_total{route="test",outcome="other"} 2"#,
            r#"body_timeouts_total{route="test",policy="timeout",limit="min_rate"} 1"#,
            r#"circuit_breaker_transitions_total{policy="breaker",from="closed",to="open"} 1"#,
            r#"component_faults_total{component="service-b",digest="0a1b",fault="trap"} 1"#,
            r#"component_loads_total{component="service-b",result="loaded"} 1"#,
            r#"component_loads_total{component="service-b",result="rejected"} 1"#,
            r#"fallbacks_declined_total{route="test",policy="fallback"} 1"#,
            r#"fallbacks_total{route="test",policy="fallback"} 1"#,
            r#"hedges_cancelled_total{route="test",policy="hedge"} 1"#,
            r#"hedges_skipped_total{route="test",policy="hedge",reason="budget"} 1"#,
            r#"hedges_total{route="test",policy="hedge"} 1"#,
            r#"hedges_won_total{route="test",policy="hedge"} 1"#,
            r#"late_failures_total{route="test",policy="breaker"} 1"#,
            r#"queue_wait_seconds_count{route="test",policy="places"} 2"#,
            r#"queue_wait_seconds_sum{route="test",policy="places"} 0.007"#,
            r#"rejections_total{route="test",policy="breaker",reason="circuit-open"} 1"#,
            r#"requests_total{route="test",status="200"} 2"#,
            r#"requests_total{route="test",status="503"} 1"#,
            r#"requests_total{route="test",status="none"} 1"#,
            r#"requests_total{route="test",status="other"} 1"#,
            r#"responses_incomplete_total{route="test",failure="connection-lost"} 1"#,
            r#"retries_aborted_total{route="test",policy="retry"} 1"#,
            r#"retries_exhausted_total{route="test",policy="retry"} 1"#,
            r#"retries_skipped_total{route="test",policy="retry",reason="method"} 1"#,
            r#"retries_total{route="test",policy="retry"} 2"#,
            r#"timeouts_total{route="test",policy="timeout"} 1"#,
        ]
    );
    let all = series(&metrics.render(&Scrape::default()));
    let of = |name: &str| all.get(name).copied();
    assert_eq!(of(r#"fusebox_attempt_duration_seconds_count{route="test"}"#), Some(8.0));
    assert_eq!(of(r#"fusebox_request_duration_seconds_count{route="test"}"#), Some(5.0));
    assert_eq!(
        of(r#"fusebox_request_duration_seconds_bucket{route="test",le="0.025"}"#),
        Some(0.0)
    );
    assert_eq!(of(r#"fusebox_request_duration_seconds_bucket{route="test",le="0.05"}"#), Some(5.0));
}

/// A policy of each kind, all of the same name.
fn policies() -> Vec<Arc<dyn Policy>> {
    fn build<C: PolicyConfig>(text: &str) -> Arc<dyn Policy> {
        toml::from_str::<C>(text).unwrap().build_any("p".into(), &NoParts).unwrap()
    }
    vec![
        build::<TimeoutConfig>("limit = \"1s\""),
        build::<RetryConfig>(""),
        build::<CircuitBreakerConfig>(""),
        build::<FallbackConfig>("respond = { status = 200 }"),
        build::<HedgeConfig>("delay = \"1s\""),
    ]
}

#[test]
fn what_is_announced_is_there_at_0() {
    let metrics = Metrics::new();
    let (route, policy): (Arc<str>, Arc<str>) = ("r".into(), "p".into());
    metrics.announce_route(&route);
    metrics.announce_component(&policy);
    let component = ComponentId { name: policy.clone(), ..component() };
    observe(
        &metrics,
        None,
        None,
        EventKind::Component(ComponentEvent::Loaded { component, replaced: None }),
    );
    for policy in policies() {
        metrics.announce_policy(&route, &*policy);
    }
    assert_eq!(
        counted(&metrics, &Scrape::default()),
        [r#"component_loads_total{component="p",result="loaded"} 1"#]
    );
    let all = series(&metrics.render(&Scrape::default()));
    for name in [
        r#"attempts_total{route="r",outcome="5xx"}"#,
        r#"attempts_total{route="r",outcome="timeout"}"#,
        r#"attempts_total{route="r",outcome="client"}"#,
        r#"requests_total{route="r",status="200"}"#,
        r#"requests_total{route="r",status="504"}"#,
        r#"request_duration_seconds_count{route="r"}"#,
        r#"retries_total{route="r",policy="p"}"#,
        r#"retries_exhausted_total{route="r",policy="p"}"#,
        r#"retries_aborted_total{route="r",policy="p"}"#,
        r#"retries_skipped_total{route="r",policy="p",reason="budget"}"#,
        r#"rejections_total{route="r",policy="p",reason="circuit-open"}"#,
        r#"circuit_breaker_transitions_total{policy="p",from="half-open",to="closed"}"#,
        r#"late_failures_total{route="r",policy="p"}"#,
        r#"timeouts_total{route="r",policy="p"}"#,
        r#"fallbacks_total{route="r",policy="p"}"#,
        r#"fallbacks_declined_total{route="r",policy="p"}"#,
        r#"hedges_total{route="r",policy="p"}"#,
        r#"hedges_won_total{route="r",policy="p"}"#,
        r#"hedges_cancelled_total{route="r",policy="p"}"#,
        r#"hedges_skipped_total{route="r",policy="p",reason="retry-after"}"#,
        r#"component_faults_total{component="p",digest="0a1b",fault="trap"}"#,
        r#"component_loads_total{component="p",result="rejected"}"#,
        "log_lines_dropped_total",
    ] {
        assert_eq!(all.get(&format!("fusebox_{name}")), Some(&0.0), "{name}");
    }
}

#[test]
fn faults_are_told_apart_by_version_and_only_the_last_versions_have_series() {
    let metrics = Metrics::new();
    let version = |generation: u64| ComponentId {
        digest: format!("{generation:x}").into(),
        generation,
        ..component()
    };
    let other = ComponentId { name: "other".into(), ..component() };
    let fault = |component, fault| {
        observe(
            &metrics,
            None,
            None,
            EventKind::Component(ComponentEvent::Faulted { component, fault, detail: "x".into() }),
        );
    };
    fault(other.clone(), Fault::Trap);
    for generation in 1..=1000 {
        let (component, replaced) = (version(generation), None);
        observe(
            &metrics,
            None,
            None,
            EventKind::Component(ComponentEvent::Loaded { component, replaced }),
        );
        fault(version(generation), Fault::Timeout);
    }
    fault(version(1000), Fault::Timeout);
    fault(version(993), Fault::Trap);
    let all = series(&metrics.render(&Scrape::default()));
    let of = |component: &ComponentId, fault: &str| {
        let ComponentId { name, digest, .. } = component;
        let labels = format!(r#"component="{name}",digest="{digest}",fault="{fault}""#);
        all.get(&format!("fusebox_component_faults_total{{{labels}}}")).copied()
    };
    assert_eq!(of(&version(1000), "timeout"), Some(2.0));
    assert_eq!([of(&version(993), "timeout"), of(&version(993), "trap")], [Some(1.0); 2]);
    assert_eq!([of(&version(992), "timeout"), of(&version(1), "timeout")], [None; 2]);
    assert_eq!(of(&other, "trap"), Some(1.0), "each component has its own eight");
}

#[test]
fn a_scrape_shows_what_is_known_elsewhere() {
    let metrics = Metrics::new();
    let state = Shown::Word { is: "half-open", of: &["closed", "open", "half-open"] };
    let endpoint = EndpointName { upstream: "b".into(), endpoint: "http://b:1".into() };
    let breaker = PolicySample {
        name: "breaker".into(),
        kind: "circuit-breaker",
        shown: vec![("state", state), ("openings", Shown::Count(1))],
        endpoints: vec![ShownEndpoint { name: endpoint, shown: vec![("state", state)] }],
    };
    let sample = |generation, calls, instances| ComponentSample {
        name: "service-b".into(),
        version: Some(ComponentId {
            name: "service-b".into(),
            digest: format!("d{generation}").into(),
            generation,
        }),
        standing: ComponentStanding::Serving,
        calls,
        call_times: CallHistogram {
            counts: std::array::from_fn(|bucket| u64::from(bucket == 2) * calls),
            nanos: 250_000,
        },
        skipped: 1,
        instances,
        memory: instances << 20,
    };
    let retry = PolicySample {
        name: "again".into(),
        kind: "retry",
        shown: vec![("waiting", Shown::Gauge(4, "Calls that wait"))],
        endpoints: Vec::new(),
    };
    let throttler = PolicySample {
        name: "share".into(),
        kind: "adaptive-throttler",
        shown: vec![("admitted", Shown::RateGauge(0.25, "Share"))],
        endpoints: Vec::new(),
    };
    let budget = |calls_in_flight, extras_in_flight| BudgetSample {
        name: "http://b".into(),
        status: BudgetStatus { calls_in_flight, extras_in_flight, calls_begun: 9, extras_begun: 9 },
    };
    let scrape = Scrape {
        connections: PlacesSample { taken: 3, places: 10 },
        calls: Some(PlacesSample { taken: 2, places: 5 }),
        policies: vec![breaker, retry, throttler],
        budgets: vec![budget(20, 3), budget(1, 2)],
        endpoints: Vec::new(),
        names: Vec::new(),
        tiers: Vec::new(),
        components: vec![sample(1, 10, 1), sample(2, 5, 2)],
        certificates: vec![CertificateSample {
            file: "b.pem".to_owned(),
            until: UNIX_EPOCH + Duration::from_secs(42),
        }],
        log_lines_dropped: 7,
    };
    let is_of_duration = |line: &String| line.starts_with("component_call_seconds");
    let (durations, others): (Vec<_>, Vec<_>) =
        counted(&metrics, &scrape).into_iter().partition(is_of_duration);
    assert_eq!(
        others,
        [
            r#"adaptive_throttler_admitted{policy="share"} 0.25"#,
            r#"budget_calls{budget="http://b"} 21"#,
            r#"budget_extras{budget="http://b"} 5"#,
            "calls_in_flight 2",
            r#"certificate_expiry_timestamp_seconds{file="b.pem"} 42"#,
            "circuit_breaker_endpoint_state{policy=\"breaker\",upstream=\"b\",\
             endpoint=\"http://b:1\",state=\"half-open\"} 1",
            r#"circuit_breaker_state{policy="breaker",state="half-open"} 1"#,
            r#"component_calls_skipped_total{component="service-b"} 2"#,
            r#"component_calls_total{component="service-b"} 15"#,
            r#"component_info{component="service-b",digest="d1",generation="1"} 1"#,
            r#"component_info{component="service-b",digest="d2",generation="2"} 1"#,
            r#"component_instances{component="service-b"} 3"#,
            r#"component_memory_bytes{component="service-b"} 3145728"#,
            r#"component_state{component="service-b",state="serving"} 1"#,
            "connections 3",
            "log_lines_dropped_total 7",
            "max_connections 10",
            "max_in_flight 5",
            r#"retry_waiting{policy="again"} 4"#,
        ]
    );
    let text = metrics.render(&scrape);
    assert!(
        text.contains("fusebox_circuit_breaker_state{policy=\"breaker\",state=\"open\"} 0\n"),
        "{text}"
    );
    assert!(text.contains("# TYPE fusebox_component_calls_total counter\n"), "{text}");
    // Those that were within 0.5 µs are none.
    assert_eq!(durations.len(), CallHistogram::BOUNDS.len() - 1 + 2, "{durations:?}");
    for line in [
        r#"component_call_seconds_sum{component="service-b"} 0.0005"#,
        r#"component_call_seconds_count{component="service-b"} 15"#,
        r#"component_call_seconds_bucket{component="service-b",le="1e-06"} 15"#,
        r#"component_call_seconds_bucket{component="service-b",le="+Inf"} 15"#,
    ] {
        assert!(durations.iter().any(|it| it == line), "{line}: {durations:?}");
    }
    assert!(text.contains("# TYPE fusebox_component_call_seconds histogram\n"), "{text}");
    // And nothing of it stays.
    assert_eq!(counted(&metrics, &Scrape::default()), [""; 0]);
}

#[test]
fn no_client_and_no_guest_makes_a_series() {
    let metrics = Metrics::new();
    let route = on_route("r");
    for number in 0..10_000_u16 {
        let text: Arc<str> = number.to_string().into();
        observe(&metrics, Some(&route), None, finished(Some(number)));
        observe(&metrics, Some(&route), None, attempt(AttemptOutcome::Response(number)));
        let faulted = EventKind::Component(ComponentEvent::Faulted {
            component: component(),
            fault: Fault::Trap,
            detail: text.clone(),
        });
        observe(&metrics, Some(&route), Some("p"), faulted);
        let printed = EventKind::Component(ComponentEvent::Printed {
            component: component(),
            line: text.clone(),
        });
        observe(&metrics, Some(&route), Some("p"), printed);
        let rejected = EventKind::Component(ComponentEvent::Rejected {
            name: "service-b".into(),
            digest: None,
            reason: text,
        });
        observe(&metrics, None, None, rejected);
    }
    let all = series(&metrics.render(&Scrape::default()));
    let count = |name: &str| all.keys().filter(|series| series.starts_with(name)).count();
    assert_eq!(count("fusebox_requests_total"), 500 + 1);
    // Six classes, six failures, cancelled and the client's.
    assert_eq!(count("fusebox_attempts_total"), 14);
    // One for each kind of fault, and the rejections.
    assert_eq!(count("fusebox_component"), Fault::ALL.len() + 1);
    assert_eq!(all.get(r#"fusebox_requests_total{route="r",status="other"}"#), Some(&9500.0));
}

#[test]
fn names_are_escaped() {
    let metrics = Metrics::new();
    observe(&metrics, Some(&on_route("a\"b\\c\nd")), None, finished(Some(200)));
    let text = metrics.render(&Scrape::default());
    assert!(
        text.contains(r#"fusebox_requests_total{route="a\"b\\c\nd",status="200"} 1"#),
        "{text}"
    );
}

//! The line of each event, field by field.

use super::*;

#[test]
fn every_event_has_its_line() {
    let call = call("r-1", Observers::default());
    let attempt = |outcome| {
        EventKind::Attempt(AttemptEvent::Finished {
            attempt: 1,
            outcome,
            elapsed: Duration::from_micros(1500),
        })
    };
    let skipped = |reason| EventKind::Retry(RetryEvent::Skipped { reason });
    let of_policies = [
        (
            attempt(AttemptOutcome::Response(503)),
            r#"{"level":"DEBUG","msg":"Attempt 1: 503",HEAD,"elapsed_ms":1.5,"status":503}"#,
        ),
        (
            attempt(AttemptOutcome::Failure(ErrorKind::ConnectionRefused)),
            r#"{"level":"DEBUG","msg":"Attempt 1: connection refused",HEAD,"elapsed_ms":1.5,"failure":"connect","error":"connection_refused"}"#,
        ),
        (
            attempt(AttemptOutcome::Cancelled),
            r#"{"level":"DEBUG","msg":"Attempt 1: cancelled",HEAD,"elapsed_ms":1.5}"#,
        ),
        (
            EventKind::Retry(RetryEvent::Scheduled { retry: 1, delay: second(1) }),
            r#"{"level":"INFO","msg":"Retry 1 after delay of 1s",HEAD,"retry":1,"delay_ms":1000.0}"#,
        ),
        (
            EventKind::Retry(RetryEvent::Exhausted { retries: 2 }),
            r#"{"level":"WARN","msg":"Retries exceeded",HEAD,"retries":2}"#,
        ),
        (EventKind::Retry(RetryEvent::Aborted), r#"{"level":"INFO","msg":"Retry aborted",HEAD}"#),
        (
            skipped(NoRetry::Method),
            r#"{"level":"INFO","msg":"Not retried: the method is not idempotent",HEAD,"reason":"method"}"#,
        ),
        (
            skipped(NoRetry::Body),
            r#"{"level":"INFO","msg":"Not retried: the request body is too long to be kept",HEAD,"reason":"body"}"#,
        ),
        (
            skipped(NoRetry::Memory),
            r#"{"level":"INFO","msg":"Not retried: the memory for request bodies is full",HEAD,"reason":"memory"}"#,
        ),
        (
            skipped(NoRetry::RetryAfter),
            r#"{"level":"INFO","msg":"Not retried: the upstream asks for too long a wait",HEAD,"reason":"retry-after"}"#,
        ),
        (
            skipped(NoRetry::Upstream),
            r#"{"level":"INFO","msg":"Not retried: the upstream asks not to be asked again",HEAD,"reason":"upstream"}"#,
        ),
        (
            skipped(NoRetry::Retried),
            r#"{"level":"INFO","msg":"Not retried: another layer has retried it or turned it away",HEAD,"reason":"retried"}"#,
        ),
        (
            skipped(NoRetry::Deadline),
            r#"{"level":"INFO","msg":"Not retried: the wait would end past the deadline",HEAD,"reason":"deadline"}"#,
        ),
        (
            skipped(NoRetry::CircuitOpen),
            r#"{"level":"INFO","msg":"Not retried: the circuit breaker stays open for too long",HEAD,"reason":"circuit-open"}"#,
        ),
        (
            skipped(NoRetry::Budget),
            r#"{"level":"INFO","msg":"Not retried: the retry budget is spent",HEAD,"reason":"budget"}"#,
        ),
        (
            EventKind::Timeout(TimeoutEvent::Exceeded { limit: second(10) }),
            r#"{"level":"INFO","msg":"Connection timed out",HEAD,"limit_ms":10000.0}"#,
        ),
        (
            EventKind::Timeout(TimeoutEvent::BodyCut { limit: BodyLimit::Time }),
            r#"{"level":"INFO","msg":"Response body timed out",HEAD,"limit":"body_limit"}"#,
        ),
        (
            EventKind::Timeout(TimeoutEvent::BodyCut { limit: BodyLimit::Rate }),
            r#"{"level":"INFO","msg":"Response body too slow",HEAD,"limit":"min_rate"}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::Closed,
                to: CircuitState::Open,
                delay: Some(second(60)),
                key: None,
                endpoint: None,
            }),
            r#"{"level":"INFO","msg":"circuit breaker state changed from closed to open",HEAD,"from":"closed","to":"open","delay_ms":60000.0}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::Open,
                to: CircuitState::HalfOpen,
                delay: None,
                key: Some("red".into()),
                endpoint: None,
            }),
            r#"{"level":"INFO","msg":"circuit breaker state changed from open to half-open",HEAD,"from":"open","to":"half-open","key":"red"}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::HalfOpen,
                to: CircuitState::Closed,
                delay: None,
                key: None,
                endpoint: Some(fusebox_resilience::EndpointName {
                    upstream: "b".into(),
                    endpoint: "http://b:1".into(),
                }),
            }),
            r#"{"level":"INFO","msg":"circuit breaker state changed from half-open to closed",HEAD,"from":"half-open","to":"closed","upstream":"b","endpoint":"http://b:1"}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::FailedLate {
                cause: LateFailureCause::Broken(ErrorKind::ConnectionTerminated),
            }),
            r#"{"level":"DEBUG","msg":"Success taken back: connection lost",HEAD,"failure":"connection-lost","error":"connection_terminated"}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::FailedLate {
                cause: LateFailureCause::Grpc(GrpcStatus::Unavailable),
            }),
            r#"{"level":"DEBUG","msg":"Success taken back: grpc 14: unavailable",HEAD,"grpc_status":"unavailable"}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::FailedLate {
                cause: LateFailureCause::Trailers,
            }),
            r#"{"level":"DEBUG","msg":"Success taken back: trailers",HEAD}"#,
        ),
        (
            EventKind::Call(CallEvent::Rejected {
                kind: ErrorKind::CircuitOpen,
                retry_after: Some(second(3)),
            }),
            r#"{"level":"INFO","msg":"Call rejected: circuit breaker open",HEAD,"reason":"circuit-open","retry_after_ms":3000.0}"#,
        ),
        (
            EventKind::Call(CallEvent::Rejected {
                kind: ErrorKind::BulkheadFull,
                retry_after: None,
            }),
            r#"{"level":"INFO","msg":"Call rejected: bulkhead full",HEAD,"reason":"bulkhead-full"}"#,
        ),
        (
            EventKind::Queue(QueueEvent::Joined { ahead: 3 }),
            r#"{"level":"DEBUG","msg":"Call waits, 3 before it",HEAD,"ahead":3}"#,
        ),
        (
            EventKind::Queue(QueueEvent::Admitted { waited: Duration::from_millis(12) }),
            r#"{"level":"DEBUG","msg":"Call admitted after 12ms",HEAD,"waited_ms":12.0}"#,
        ),
        (
            EventKind::Keys(KeysEvent::Overflowed { count: Some(7) }),
            r#"{"level":"WARN","msg":"Too many keys: newcomers share one state",HEAD,"count":7}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Served { status: 200, component: None }),
            r#"{"level":"INFO","msg":"Fallback executed result",HEAD,"status":200}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Served {
                status: 200,
                component: Some(component()),
            }),
            r#"{"level":"INFO","msg":"Fallback executed result",HEAD,"status":200,"component":"service-b","digest":"0a1b","generation":2}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Declined),
            r#"{"level":"INFO","msg":"Fallback declined",HEAD}"#,
        ),
        (
            EventKind::Call(CallEvent::DeadlineExceeded { limit: second(2) }),
            r#"{"level":"INFO","msg":"Deadline exceeded",HEAD,"limit_ms":2000.0}"#,
        ),
        (
            EventKind::Call(CallEvent::DeadlineIgnored { header: "prefer" }),
            r#"{"level":"INFO","msg":"Deadline ignored: it is not valid",HEAD,"header":"prefer"}"#,
        ),
        (
            EventKind::Hedge(HedgeEvent::Launched { hedge: 1, asked: second(1) }),
            r#"{"level":"INFO","msg":"Hedge 1 launched after 1s",HEAD,"hedge":1,"asked_ms":1000.0}"#,
        ),
        (
            EventKind::Hedge(HedgeEvent::Won { hedge: 1 }),
            r#"{"level":"INFO","msg":"Hedge 1 won",HEAD,"hedge":1}"#,
        ),
        (
            EventKind::Hedge(HedgeEvent::Cancelled { hedge: 0 }),
            r#"{"level":"DEBUG","msg":"Attempt lost to another",HEAD,"hedge":0}"#,
        ),
        (
            EventKind::Hedge(HedgeEvent::Skipped { reason: NoHedge::Budget }),
            r#"{"level":"INFO","msg":"Not hedged: the budget is spent",HEAD,"reason":"budget"}"#,
        ),
        (
            EventKind::Call(CallEvent::ResponseIncomplete {
                kind: ErrorKind::ConnectionTerminated,
            }),
            r#"{"level":"WARN","msg":"Response incomplete: connection lost",HEAD,"failure":"connection-lost","error":"connection_terminated"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Faulted {
                component: component(),
                fault: Fault::BadAnswer,
                detail: "status 0".into(),
            }),
            r#"{"level":"ERROR","msg":"Component faulted: bad-answer",HEAD,"component":"service-b","digest":"0a1b","generation":2,"fault":"bad-answer","detail":"status 0"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Printed {
                component: component(),
                line: "hello".into(),
            }),
            r#"{"level":"INFO","msg":"Component printed",HEAD,"component":"service-b","digest":"0a1b","generation":2,"line":"hello"}"#,
        ),
    ];
    for (kind, expected) in of_policies {
        let expected =
            expected.replace("HEAD", r#""request_id":"r-1","route":"test","policy":"p""#);
        assert_eq!(line_of(Some(call.request()), Some("p"), &kind), expected);
    }
}

#[test]
fn a_line_about_an_attempt_says_which_and_where() {
    let call = call("r-1", Observers::default());
    let mut scope =
        Provenance { attempt: 2, address: "10.0.0.7:80".parse().ok(), ..Provenance::default() };
    scope.role = Role::Retry(1);
    let of = |policy, kind: EventKind, expected: &str| {
        let head = r#""request_id":"r-1","route":"test""#;
        let expected = expected.replace("HEAD", head);
        assert_eq!(line_about(Some(call.request()), policy, Some(&scope), &kind), expected);
    };
    let elapsed = Duration::from_micros(1500);
    let outcome = AttemptOutcome::Response(503);
    of(
        None,
        AttemptEvent::Finished { attempt: 2, outcome, elapsed }.into(),
        r#"{"level":"DEBUG","msg":"Attempt 2: 503",HEAD,"attempt":2,"address":"10.0.0.7:80","run":0,"role":"retry","retry":1,"elapsed_ms":1.5,"status":503}"#,
    );
    let remaining = Some(second(2));
    of(
        None,
        AttemptEvent::Started { attempt: 2, endpoint: "http://b".into(), remaining }.into(),
        r#"{"level":"DEBUG","msg":"Attempt 2 started",HEAD,"attempt":2,"address":"10.0.0.7:80","run":0,"role":"retry","retry":1,"endpoint":"http://b","remaining_ms":2000.0}"#,
    );
    let hedged = Provenance { role: Role::Hedge(1), is_http2: true, ..scope };
    let kind = AttemptEvent::Finished { attempt: 2, outcome, elapsed }.into();
    assert!(
        line_about(Some(call.request()), Some("h"), Some(&hedged), &kind)
            .contains(r#","upstream_protocol":"HTTP/2","run":0,"role":"hedge","hedge":1,"#)
    );
    of(
        Some("retry"),
        RetryEvent::Aborted.into(),
        r#"{"level":"INFO","msg":"Retry aborted",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80"}"#,
    );
    let asked = |component: Option<&str>, on_error, handled| ConditionEvent::Asked {
        slot: Slot::HandleIf,
        component: component.map(Into::into),
        on_error,
        handled,
    };
    of(
        Some("retry"),
        asked(None, false, false).into(),
        r#"{"level":"DEBUG","msg":"Condition handle-if: no",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80","slot":"handle-if","handled":false}"#,
    );
    of(
        Some("retry"),
        asked(Some("b"), true, false).into(),
        r#"{"level":"DEBUG","msg":"Condition handle-if: no",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80","slot":"handle-if","component":"b","on_error":true,"handled":false}"#,
    );
    of(
        Some("retry"),
        asked(Some("b"), false, true).into(),
        r#"{"level":"DEBUG","msg":"Condition handle-if: yes",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80","slot":"handle-if","component":"b","handled":true}"#,
    );
    let access = |status, failure| {
        let line = line_about(Some(call.request()), None, Some(&scope), &finished(status, failure));
        line.split_once(r#","attempts":2"#).unwrap().1.to_owned()
    };
    assert_eq!(access(502, None), r#","attempt":2,"address":"10.0.0.7:80"}"#);
    assert_eq!(
        access(429, Some(ErrorKind::RateLimited)),
        r#","attempt":2,"address":"10.0.0.7:80","failure":"rate-limited","error":"http_request_denied"}"#
    );
    assert_eq!(access(200, None), "}");
    // Where the client is to blame, the upstream is not pointed at.
    assert_eq!(
        access(413, Some(ErrorKind::RequestTooLarge)),
        r#","failure":"other","error":"http_request_error"}"#
    );
}

#[test]
fn what_concerns_no_call_has_a_line_without_one() {
    let replaced = ComponentId { digest: "ffff".into(), generation: 1, ..component() };
    let cases = [
        (
            EventKind::Component(ComponentEvent::Loaded { component: component(), replaced: None }),
            r#"{"level":"INFO","msg":"Component loaded","component":"service-b","digest":"0a1b","generation":2}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Loaded {
                component: component(),
                replaced: Some(replaced.clone()),
            }),
            r#"{"level":"INFO","msg":"Component replaced","component":"service-b","digest":"0a1b","generation":2,"replaced_digest":"ffff","replaced_generation":1}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Rejected {
                name: "service-b".into(),
                digest: None,
                reason: "no export".into(),
            }),
            r#"{"level":"ERROR","msg":"Component rejected","component":"service-b","reason":"no export"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Rejected {
                name: "service-b".into(),
                digest: Some("ffff".into()),
                reason: "no export".into(),
            }),
            r#"{"level":"ERROR","msg":"Component rejected","component":"service-b","rejected_digest":"ffff","reason":"no export"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::RolledBack {
                component: component(),
                from: replaced.clone(),
                faults: Some(4),
            }),
            r#"{"level":"WARN","msg":"Component rolled back","component":"service-b","digest":"0a1b","generation":2,"from_digest":"ffff","from_generation":1,"faults":4}"#,
        ),
        (
            EventKind::Component(ComponentEvent::RolledBack {
                component: component(),
                from: replaced.clone(),
                faults: None,
            }),
            r#"{"level":"WARN","msg":"Component rolled back","component":"service-b","digest":"0a1b","generation":2,"from_digest":"ffff","from_generation":1}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Quarantined {
                component: component(),
                faults: 20,
                interval: Duration::from_secs(5),
            }),
            r#"{"level":"ERROR","msg":"Component quarantined","component":"service-b","digest":"0a1b","generation":2,"faults":20,"interval_ms":5000.0}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Released { component: component() }),
            r#"{"level":"INFO","msg":"Component released","component":"service-b","digest":"0a1b","generation":2}"#,
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(line_of(None, None, &kind), expected);
    }
}

//! Conditions: native lists, components, what narrows them, and the peek.

use std::collections::VecDeque;
use std::sync::Arc;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    CircuitBreaker, CircuitBreakerConfig, ErrorKind, Failure, Peek, PolicyConfig, RequestBody,
    Response, ResponseBody, WindowCounts,
};

use crate::support::{
    Answers, Fake, Piece, Rig, Surroundings, breaker, breaker_among, fallback, fallback_among, ms,
    problems, rate_limiter, request_body, response, response_body, retry_among,
};

/// Whether a breaker with this `handle_if` takes the outcome for a failure.
async fn takes(handle_if: &str, outcome: Result<u16, ErrorKind>) -> bool {
    let breaker = breaker(&format!("failure_threshold = 9\nhandle_if = {{ {handle_if} }}"));
    let upstream = Answers(move |_| Ok(response(outcome?, &[], ResponseBody::empty())));
    Rig::around(upstream, [breaker.clone()]).run().await;
    breaker.status().counts.failures == 1
}

async fn statuses_taken(handle_if: &str) -> Vec<u16> {
    let mut taken = Vec::new();
    for status in [200, 404, 429, 499, 500, 501, 502, 503, 599] {
        if takes(handle_if, Ok(status)).await {
            taken.push(status);
        }
    }
    taken
}

// ===== native lists =====

#[tokio::test(start_paused = true)]
async fn statuses_are_named_singly_by_class_or_by_range() {
    for (list, taken) in [
        ("\"503\"", vec![503]),
        ("503", vec![503]),
        ("\"5xx\"", vec![500, 501, 502, 503, 599]),
        ("\"500-502\"", vec![500, 501, 502]),
        ("\"404\", \"502-503\"", vec![404, 502, 503]),
        ("", vec![]),
    ] {
        assert_eq!(statuses_taken(&format!("status = [{list}]")).await, taken, "{list}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_left_out_keeps_the_default_of_its_kind() {
    assert_eq!(statuses_taken("failure = []").await, [500, 502, 503, 599]);
    assert!(takes("status = [\"404\"]", Err(ErrorKind::Timeout)).await);
    assert!(!takes("status = [\"404\"], failure = []", Err(ErrorKind::Timeout)).await);
}

/// A failure of each kind, but for those of the client, our own, and `retries-exceeded`.
const KINDS: [ErrorKind; 14] = [
    ErrorKind::DnsError,
    ErrorKind::ConnectionRefused,
    ErrorKind::Unroutable,
    ErrorKind::ConnectionTimeout,
    ErrorKind::TlsProtocolError,
    ErrorKind::TlsCertificateError,
    ErrorKind::ConnectionTerminated,
    ErrorKind::ProtocolError,
    ErrorKind::Timeout,
    ErrorKind::CircuitOpen,
    ErrorKind::BulkheadFull,
    ErrorKind::RateLimited,
    ErrorKind::Overloaded,
    ErrorKind::BudgetExceeded,
];

#[tokio::test(start_paused = true)]
async fn each_failure_is_taken_by_its_own_name_and_by_any_and_by_no_other() {
    for kind in KINDS {
        assert!(takes("failure = [\"any\"]", Err(kind)).await, "{kind:?}");
        for failure in Failure::ALL {
            let taken = takes(&format!("failure = [\"{}\"]", failure.name()), Err(kind)).await;
            assert_eq!(taken, failure == kind.failure(), "{kind:?} by {}", failure.name());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_only_failures_of_the_upstream_are_taken() {
    for kind in KINDS {
        let own = kind.is_rejection();
        assert_eq!(takes("", Err(kind)).await, !own, "{kind:?}");
    }
}

#[test]
fn configuration_errors_name_the_key() {
    let parts = Surroundings::default().predicate("asked", &Fake::new(|_| true));
    let list = "expected a status such as \"503\", \"5xx\" or \"500-502\" within 100 to 599, found";
    let names = "expected any, dns, connect, tls, connection-lost, protocol, timeout, \
                 circuit-open, bulkhead-full, \
                 rate-limited, overloaded, budget-exceeded, retries-exceeded, other";
    for (text, expected) in [
        ("status = [\"503\", \"5x\"]", format!("handle_if.status[1]: {list} `5x`")),
        ("status = [700]", format!("handle_if.status[0]: {list} `700`")),
        ("status = [\"502-500\"]", format!("handle_if.status[0]: {list} `502-500`")),
        (
            "status = [true]",
            "invalid type: boolean `true`, expected a status such as \"503\", \
             \"5xx\" or \"500-502\""
                .into(),
        ),
        (
            "failure = [\"dns\", \"DNS\"]",
            format!("handle_if.failure[1]: unknown failure `DNS`; {names}"),
        ),
        ("component = \"none\"", "handle_if.component: no component `none`".into()),
        (
            "component = \"asked\", status = [\"503\"]",
            "handle_if: a component decides alone; put `status`, `failure` and `grpc_status` into \
             `only` to narrow what it is asked about"
                .into(),
        ),
        ("only = {}", "handle_if.only: narrows a `component`, but none is named".into()),
        (
            "component = \"asked\", only = { status = [\"5x\"] }",
            format!("handle_if.only.status[0]: {list} `5x`"),
        ),
        (
            "component = \"asked\", only = { failure = [\"x\"] }",
            format!("handle_if.only.failure[0]: unknown failure `x`; {names}"),
        ),
        (
            "statuses = []",
            "unknown field `statuses`, expected one of `status`, `failure`, `grpc_status`, \
             `component`, `only`, `method`, `header`, `attempt`, `any`, `all`, `not`"
                .into(),
        ),
        (
            "component = \"asked\", only = { statuses = [] }",
            "unknown field `statuses`, expected one of \
             `status`, `failure`, `grpc_status`"
                .into(),
        ),
    ] {
        let text = format!("handle_if = {{ {text} }}");
        assert_eq!(
            problems(&text, |config: CircuitBreakerConfig| config.build("b".into(), &parts)),
            [expected],
            "{text}"
        );
    }
}

// ===== components =====

/// A breaker whose `handle_if` is this component.
fn asks(asked: &Arc<Fake>, only: &str) -> Arc<CircuitBreaker> {
    let parts = Surroundings::default().predicate("asked", asked);
    breaker_among(
        &format!("failure_threshold = 9\nhandle_if = {{ component = \"asked\"{only} }}"),
        &parts,
    )
}

#[tokio::test(start_paused = true)]
async fn a_component_decides_alone_about_responses_and_failures() {
    for (answer, failures) in [(Fake::new(|_| true), 3), (Fake::new(|_| false), 0)] {
        let breaker = asks(&answer, "");
        let rig = Rig::new("200,503,close", [breaker.clone()]);
        for at in 0..3 {
            let _ended = rig.get_at(10 * at).await;
        }
        assert_eq!(breaker.status().counts.failures, failures);
        assert_eq!(
            answer.seen(),
            ["200 \"\"… of attempt 1", "503 \"\" of attempt 1", "connection-lost of attempt 1"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_narrows_what_a_component_is_asked_about_and_a_list_left_out_is_all_of_that_kind() {
    for (only, asked_about) in [
        ("status = [\"503\"]", vec!["503", "connection-lost"]),
        ("failure = []", vec!["200", "503"]),
        ("status = [], failure = [\"connection-lost\"]", vec!["connection-lost"]),
        ("status = [], failure = [\"timeout\"]", vec![]),
        ("", vec!["200", "503", "connection-lost"]),
    ] {
        let yes = Fake::new(|_| true);
        let breaker = asks(&yes, &format!(", only = {{ {only} }}"));
        let rig = Rig::new("200,503,close", [breaker.clone()]);
        for at in 0..3 {
            let _ended = rig.get_at(10 * at).await;
        }
        let seen: Vec<_> =
            yes.seen().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(seen, asked_about, "{only}");
        assert_eq!(
            breaker.status().counts,
            WindowCounts { successes: 3 - seen.len(), failures: seen.len() },
            "{only}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_component_is_not_asked_about_a_client_that_failed() {
    let yes = Fake::new(|_| true);
    let breaker = asks(&yes, "");
    let rig = Rig::new("", [breaker.clone()]);
    let body = request_body(9, [Piece::Break(ErrorKind::RequestIncomplete)]);
    assert_eq!(rig.request("POST", body).await, (0, Err(ErrorKind::RequestIncomplete)));
    assert_eq!((yes.seen(), breaker.status().counts), (vec![], WindowCounts::default()));
}

#[tokio::test(start_paused = true)]
async fn a_component_knows_who_asks_what_and_what_the_slot_answers_by_default() {
    let looks = Fake::new(|seen| {
        let slot = format!("{:?}", seen.slot);
        let expected = match (&**seen.policy, slot.as_str()) {
            ("breaker" | "retry", "HandleIf") => seen.outcome.is_ok(),
            ("fallback", "HandleIf") => true,
            ("breaker", "IgnoreIf") | ("retry", "AbortIf") => false,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen.default_answer(), expected, "{} {slot}", seen.policy);
        seen.default_answer()
    });
    let parts = Surroundings::default().predicate("looks", &looks);
    let component = "{ component = \"looks\" }";
    // A 503, which every handle_if takes by default, and a rejection, which only a fallback's does.
    let upstream = Answers(|number| match number {
        1 => Ok(response(503, &[], ResponseBody::empty())),
        _ => Err(ErrorKind::RateLimited.into()),
    });
    let rig = Rig::around(
        upstream,
        [
            fallback_among(
                &format!("handle_if = {component}\nrespond = {{ status = 200 }}"),
                &parts,
            ),
            retry_among(
                &format!("delay = \"10ms\"\nhandle_if = {component}\nabort_if = {component}"),
                &parts,
            ),
            breaker_among(&format!("handle_if = {component}\nignore_if = {component}"), &parts),
        ],
    );
    assert_eq!(rig.get().await, (12, Ok(200)));
    // Of the 503: ignore, handle, handle, abort. Of the rejection: ignore, handle, handle, and the
    // fallback's handle.
    assert_eq!(looks.seen().len(), 8);
}

// ===== the peek =====

/// Through a breaker that peeks and takes nothing; what is left of the response.
async fn peeked(
    looks: &Arc<Fake>,
    method: &str,
    answer: fn() -> Response,
) -> (u64, Result<Response, ErrorKind>) {
    let rig = Rig::around(Answers(move |_| Ok(answer())), [asks(looks, "")]);
    let call = rig.call_of(
        http::Request::builder().method(method).uri("http://service-b/"),
        RequestBody::empty(),
    );
    let outcome = rig.outcome(&call).await;
    (rig.now(), outcome.map_err(|error| error.kind()))
}

fn slow(status: u16, headers: &[(&'static str, &str)]) -> Response {
    let body = [
        Piece::Data("abc"),
        Piece::Wait(20),
        Piece::Data("def"),
        Piece::Wait(20),
        Piece::Data("ghi"),
    ];
    response(status, headers, response_body(body))
}

#[tokio::test(start_paused = true)]
async fn a_peek_ends_as_soon_as_its_size_is_there_and_shows_no_more_than_it() {
    for (bytes, ended, shown) in
        [(3, 1, "abc"), (4, 21, "abcd"), (6, 21, "abcdef"), (7, 41, "abcdefg")]
    {
        let looks = Fake::peeking(bytes, 1000, |_| false);
        let (at, response) = peeked(&looks, "GET", || slow(200, &[])).await;
        assert_eq!((at, looks.seen()), (ended, vec![format!("200 {shown:?}… of attempt 1")]));
        assert_eq!(
            read(response.unwrap().body).await.unwrap(),
            "abcdefghi",
            "the client gets all of it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peek_ends_with_the_body() {
    let looks = Fake::peeking(100, 1000, |_| false);
    let (at, response) = peeked(&looks, "GET", || slow(200, &[])).await;
    assert_eq!((at, looks.seen()), (41, vec!["200 \"abcdefghi\" of attempt 1".to_owned()]));
    assert_eq!(read(response.unwrap().body).await.unwrap(), "abcdefghi");
}

#[tokio::test(start_paused = true)]
async fn a_peek_ends_after_its_timeout_with_what_is_there() {
    let looks = Fake::peeking(100, 30, |_| false);
    let (at, response) = peeked(&looks, "GET", || slow(200, &[])).await;
    assert_eq!((at, looks.seen()), (31, vec!["200 \"abcdef\"… of attempt 1".to_owned()]));
    assert_eq!(read(response.unwrap().body).await.unwrap(), "abcdefghi");
}

#[tokio::test(start_paused = true)]
async fn a_peek_that_timed_out_is_not_waited_for_again() {
    let looks = Fake::peeking(100, 30, |_| false);
    let rig = Rig::around(
        Answers(|_| Ok(slow(200, &[]))),
        [asks(&looks, ""), asks(&looks, ""), asks(&looks, "")],
    );
    assert_eq!(rig.get().await, (31, Ok(200)));
    assert_eq!(looks.seen(), ["200 \"abcdef\"… of attempt 1"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_second_peek_reads_on_from_where_the_first_one_ended() {
    let (small, large) = (Fake::peeking(3, 30, |_| false), Fake::peeking(6, 30, |_| false));
    let rig = Rig::around(Answers(|_| Ok(slow(200, &[]))), [asks(&large, ""), asks(&small, "")]);
    assert_eq!(rig.get().await, (21, Ok(200)));
    assert_eq!(small.seen(), ["200 \"abc\"… of attempt 1"]);
    assert_eq!(large.seen(), ["200 \"abcdef\"… of attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_peek_is_skipped_where_there_is_no_body() {
    type Case = (&'static str, fn() -> Response);
    let cases: [Case; 3] =
        [("HEAD", || slow(200, &[])), ("GET", || slow(204, &[])), ("GET", || slow(304, &[]))];
    for (method, answer) in cases {
        let looks = Fake::peeking(100, 30, |_| false);
        let (at, response) = peeked(&looks, method, answer).await;
        let response = response.unwrap();
        let line = format!("{} \"\"… of attempt 1", response.status.as_u16());
        assert_eq!((at, looks.seen()), (1, vec![line]));
        assert_eq!(read(response.body).await.unwrap(), "abcdefghi");
    }
}

/// An event stream that comes piece by piece, 10 ms apart, and never ends.
fn events(pieces: &[&'static str]) -> Response {
    let pieces = pieces.iter().flat_map(|piece| [Piece::Wait(10), Piece::Data(piece)]);
    let stream = response_body(pieces.chain([Piece::Hang]).collect::<VecDeque<_>>());
    response(200, &[("content-type", "Text/Event-Stream; charset=utf-8")], stream)
}

#[tokio::test(start_paused = true)]
async fn a_peek_into_a_stream_of_events_waits_for_the_first_one_alone() {
    let looks = Fake::peeking(100, 300, |_| false);
    let (at, _) = peeked(&looks, "GET", || {
        events(&[": hello\n\n", "data: {\"err", "or\": 1}\n", "\n", "data: 2\n\n"])
    })
    .await;
    let seen = r#"200 ": hello\n\ndata: {\"error\": 1}\n\n"… of attempt 1"#;
    assert_eq!((at, looks.seen()), (41, vec![seen.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_peek_into_a_stream_of_events_keeps_to_its_time_and_size() {
    let looks = Fake::peeking(100, 25, |_| false);
    let (at, _) = peeked(&looks, "GET", || events(&["data: 1\n", "data: 2\n", "\n"])).await;
    let seen = r#"200 "data: 1\ndata: 2\n"… of attempt 1"#;
    assert_eq!((at, looks.seen()), (26, vec![seen.to_owned()]));
    let looks = Fake::peeking(8, 300, |_| false);
    let (at, _) = peeked(&looks, "GET", || events(&["data: 1\n", "data: 2\n", "\n"])).await;
    let seen = r#"200 "data: 1\n"… of attempt 1"#;
    assert_eq!((at, looks.seen()), (11, vec![seen.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn two_peeks_into_a_stream_of_events_see_the_same_one() {
    let looks = Fake::peeking(100, 300, |_| false);
    let rig = Rig::around(
        Answers(|_| Ok(events(&["data: 1\n\n", "data: 2\n\n"]))),
        [asks(&looks, ""), asks(&looks, "")],
    );
    assert_eq!(rig.get().await, (11, Ok(200)));
    assert_eq!(looks.seen(), [r#"200 "data: 1\n\n"… of attempt 1"#; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_that_dies_before_its_first_one_is_connection_lost() {
    let looks = Fake::peeking(100, 300, |_| false);
    let (at, outcome) = peeked(&looks, "GET", || {
        let pieces = [
            Piece::Data("data: 1\n"),
            Piece::Wait(5),
            Piece::Break(ErrorKind::ConnectionTerminated),
        ];
        response(200, &[("content-type", "text/event-stream")], response_body(pieces))
    })
    .await;
    assert_eq!((at, outcome.unwrap_err()), (6, ErrorKind::ConnectionTerminated));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_whole_already_costs_no_wait() {
    let looks = Fake::peeking(100, 30, |_| false);
    let (at, _) = peeked(&looks, "GET", || response(200, &[], ResponseBody::full("abc"))).await;
    assert_eq!((at, looks.seen()), (1, vec!["200 \"abc\" of attempt 1".to_owned()]));
}

fn dies() -> Response {
    response(
        200,
        &[],
        response_body([
            Piece::Data("abc"),
            Piece::Wait(5),
            Piece::Break(ErrorKind::ConnectionTerminated),
        ]),
    )
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dies_within_the_peek_makes_the_outcome_connection_lost() {
    let looks = Fake::peeking(100, 30, |_| false);
    let (at, outcome) = peeked(&looks, "GET", dies).await;
    assert_eq!((at, outcome.unwrap_err()), (6, ErrorKind::ConnectionTerminated));
    assert_eq!(looks.seen(), ["connection-lost of attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dies_within_the_peek_is_retried() {
    let looks = Fake::peeking(100, 30, |seen| seen.outcome.is_err());
    let parts = Surroundings::default().predicate("looks", &looks);
    let upstream = Answers(|number| Ok(if number == 1 { dies() } else { slow(200, &[]) }));
    let rig = Rig::around(
        upstream,
        [retry_among("delay = \"10ms\"\nhandle_if = { component = \"looks\" }", &parts)],
    );
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(read(response.body).await.unwrap(), "abcdefghi");
    assert_eq!(looks.seen(), ["connection-lost of attempt 1", "200 \"abcdef\"… of attempt 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dies_within_the_peek_is_not_asked_about_if_only_leaves_that_out() {
    let looks = Fake::peeking(100, 30, |_| true);
    let breaker = asks(&looks, ", only = { failure = [] }");
    let rig = Rig::around(Answers(|_| Ok(dies())), [breaker.clone()]);
    assert_eq!(rig.get().await, (6, Err(ErrorKind::ConnectionTerminated)));
    assert_eq!(
        (looks.seen(), breaker.status().counts),
        (vec![], WindowCounts { successes: 1, failures: 0 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dies_after_the_peek_is_the_clients_to_see() {
    let looks = Fake::peeking(3, 30, |_| false);
    let (at, response) = peeked(&looks, "GET", dies).await;
    assert_eq!(at, 1);
    assert_eq!(
        read(response.unwrap().body).await.unwrap_err().kind(),
        ErrorKind::ConnectionTerminated
    );
}

#[tokio::test(start_paused = true)]
async fn outside_only_nothing_is_peeked() {
    let looks = Fake::peeking(100, 30, |_| false);
    let rig = Rig::around(
        Answers(|_| Ok(slow(200, &[]))),
        [asks(&looks, ", only = { status = [\"5xx\"] }")],
    );
    assert_eq!(rig.get().await, (1, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_peek_of_no_bytes_waits_for_nothing() {
    let mut body = response_body([Piece::Hang]);
    body.peek(Peek { bytes: 0, timeout: ms(30) }).await.unwrap();
    let looks = Fake::peeking(0, 30, |_| false);
    assert_eq!(peeked(&looks, "GET", || slow(200, &[])).await.0, 1);
}

// ===== parts, and conditions within conditions =====

/// Whether a retry with this `handle_if` takes this response to this method, of the first attempt.
async fn retries(handle_if: &str, method: &str, status: u16, headers: Headers) -> bool {
    let retry = retry_among(&retry_of(handle_if), &Surroundings::default());
    let upstream = Answers(move |_| Ok(response(status, headers, ResponseBody::empty())));
    let rig = Rig::around(upstream, [retry]);
    let request = http::Request::builder().method(method).uri("http://service-b/");
    let call = rig.call_of(request, RequestBody::empty());
    drop(rig.outcome(&call).await);
    call.attempts() == 2
}

type Headers = &'static [(&'static str, &'static str)];

fn retry_of(handle_if: &str) -> String {
    format!(
        "max_retries = 1\ndelay = \"1ms\"\nmethods = [\"*\"]\nretry_after = false\n\
             handle_if = {{ {handle_if} }}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_503_without_retry_after_on_get_needs_no_component() {
    let condition = "status = [503], method = \"GET\", not = { header = { retry-after = \"*\" } }";
    assert!(retries(condition, "GET", 503, &[]).await);
    assert!(!retries(condition, "GET", 503, &[("retry-after", "9")]).await);
    assert!(!retries(condition, "POST", 503, &[]).await);
    assert!(!retries(condition, "GET", 500, &[]).await);
}

#[tokio::test(start_paused = true)]
async fn a_part_narrows_the_default_of_a_slot() {
    let get = "method = [\"GET\", \"HEAD\"]";
    assert!(retries(get, "HEAD", 503, &[]).await && !retries(get, "HEAD", 404, &[]).await);
    assert!(!retries(get, "PUT", 503, &[]).await);
    let busy = "status = [200], header = { x-state = \"busy\" }";
    assert!(retries(busy, "GET", 200, &[("x-state", "busy")]).await);
    assert!(!retries(busy, "GET", 200, &[("x-state", "fine")]).await);
}

#[tokio::test(start_paused = true)]
async fn any_and_all_take_the_place_of_the_default() {
    let any = "any = [{ status = [404] }, { header = { x-state = \"busy\" } }]";
    assert!(retries(any, "GET", 404, &[]).await && !retries(any, "GET", 503, &[]).await);
    assert!(retries(any, "GET", 200, &[("x-state", "busy")]).await);
    let all = "all = [{ status = [\"5xx\"] }, { not = { status = [503] } }]";
    assert!(retries(all, "GET", 500, &[]).await && !retries(all, "GET", 503, &[]).await);
    // Within others, a list beside the one that is given takes nothing.
    for (condition, taken) in [
        ("any = [{ status = [404] }]", false),
        ("any = [{ failure = [\"connect\"] }]", true),
        ("any = [{ status = [404] }, { failure = [\"any\"] }]", true),
        ("not = { failure = [\"connect\"] }", false),
        ("not = { failure = [\"timeout\"] }", true),
    ] {
        let refused = Err(ErrorKind::ConnectionRefused);
        assert_eq!(takes(condition, refused).await, taken, "{condition}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_known_by_its_number() {
    let second = "attempt = \">=2\"";
    let upstream = Answers(|_| Ok(response(503, &[], ResponseBody::empty())));
    let breaker = breaker(&format!("failure_threshold = 9\nhandle_if = {{ {second} }}"));
    let retry = retry_among(
        "max_retries = 3\ndelay = \"1ms\"\nabort_if = { attempt = 3 }",
        &Surroundings::default(),
    );
    let rig = Rig::around(upstream, [retry, breaker.clone()]);
    let call = rig.call();
    drop(rig.outcome(&call).await);
    assert_eq!(call.attempts(), 3, "the third ends it");
    assert_eq!(breaker.status().counts, WindowCounts { successes: 1, failures: 2 });

    let none =
        fallback("respond = { status = 203 }\nhandle_if = { attempt = 0, failure = [\"any\"] }");
    let rig = Rig::new("", [none, rate_limiter("limit = 1\nper = \"1s\"")]);
    assert_eq!(rig.get().await, (1, Ok(200)));
    assert_eq!(rig.get().await, (1, Ok(203)), "a rejection is of no attempt");
}

#[tokio::test(start_paused = true)]
async fn components_are_asked_only_if_the_rest_leaves_it_open() {
    for (condition, answer, asked, taken) in [
        ("any = [{ component = \"c\" }, { status = [503] }]", false, 0, true),
        ("all = [{ component = \"c\" }, { status = [404] }]", true, 0, false),
        ("component = \"c\", method = \"PUT\"", true, 0, false),
        ("component = \"c\", method = \"GET\"", true, 1, true),
        ("not = { component = \"c\" }", true, 1, false),
        ("all = [{ component = \"c\" }, { component = \"c\" }]", true, 2, true),
        ("any = [{ component = \"c\" }, { component = \"c\" }]", true, 1, true),
        ("all = [{ component = \"c\", only = { status = [404] } }]", true, 0, false),
    ] {
        let component = Fake::new(if answer { |_| true } else { |_| false });
        let parts = Surroundings::default().predicate("c", &component);
        let upstream = Answers(|_| Ok(response(503, &[], ResponseBody::empty())));
        let rig = Rig::around(upstream, [retry_among(&retry_of(condition), &parts)]);
        let call = rig.call();
        drop(rig.outcome(&call).await);
        assert_eq!(call.attempts() == 2, taken, "{condition}");
        // Both attempts are judged.
        let attempts = if taken { 2 } else { 1 };
        assert_eq!(component.seen().len(), asked * attempts, "{condition}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_while_it_is_peeked_at_is_judged_as_what_it_has_become() {
    let component = Fake::peeking(9, 100, |_| true);
    let parts = Surroundings::default().predicate("c", &component);
    let condition = "any = [{ component = \"c\", only = { failure = [] } }, \
                            { failure = [\"connection-lost\"] }]";
    let broken =
        || response_body([Piece::Data("a"), Piece::Break(ErrorKind::ConnectionTerminated)]);
    let upstream = Answers(move |_| Ok(response(200, &[], broken())));
    let rig = Rig::around(upstream, [retry_among(&retry_of(condition), &parts)]);
    assert_eq!(rig.get().await.1, Err(ErrorKind::ConnectionTerminated));
    assert_eq!(component.seen(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_tree_judges_what_is_behind_and_what_breaks_off_late() {
    // A breaker outside looks at the status behind `retries-exceeded`.
    let outside = breaker(
        "failure_threshold = 9\nhandle_if = { any = [{ status = [503] }, { status = [404] }] }",
    );
    let retry = retry_among(
        "max_retries = 1\ndelay = \"1ms\"\nreturn_last_failure = false",
        &Surroundings::default(),
    );
    let upstream = Answers(|_| Ok(response(503, &[], ResponseBody::empty())));
    Rig::around(upstream, [outside.clone(), retry]).run().await;
    assert_eq!(outside.status().counts, WindowCounts { successes: 0, failures: 1 });
    for (condition, failures) in [
        ("any = [{ failure = [\"connection-lost\"] }]", 1),
        ("method = \"GET\"", 1),
        ("method = \"PUT\"", 0),
        ("all = [{ header = { x-state = \"*\" } }]", 0),
    ] {
        let breaker = breaker(&format!("failure_threshold = 9\nhandle_if = {{ {condition} }}"));
        let broken =
            || response_body([Piece::Data("a"), Piece::Break(ErrorKind::ConnectionTerminated)]);
        let upstream = Answers(move |_| Ok(response(200, &[], broken())));
        let rig = Rig::around(upstream, [breaker.clone()]);
        let outcome = rig.outcome(&rig.call()).await.expect("a head");
        assert!(read(outcome.body).await.is_err());
        assert_eq!(breaker.status().counts.failures, failures, "{condition}");
    }
}

#[test]
fn errors_in_parts_name_their_place() {
    let deep = format!("{}status = [503]{}", "not = { ".repeat(9), " }".repeat(9));
    let many = format!("any = [{}]", ["{ status = [503] }"; 80].join(", "));
    for (condition, expected) in [
        ("any = []", "handle_if.any: expected at least one condition, found an empty list"),
        ("all = []", "handle_if.all: expected at least one condition, found an empty list"),
        ("not = {}", "handle_if.not: expected a condition, found an empty table"),
        ("any = [{}]", "handle_if.any[0]: expected a condition, found an empty table"),
        ("method = []", "handle_if.method: expected at least one method, found an empty list"),
        ("method = \"get\"", "handle_if.method: expected a method in capitals, found `get`"),
        ("header = { \"a b\" = \"*\" }", "handle_if.header.a b: is not a valid header name"),
        ("header = { a = \"\\n\" }", "handle_if.header.a: is not a valid header value"),
        (
            "attempt = \"2+\"",
            "handle_if.attempt: expected a number such as \"1\", \">=2\" or \"<3\", found `2+`",
        ),
        (
            "any = [{ attempt = \"<1\" }]",
            "handle_if.any[0].attempt: expected a number such as \"1\", \">=2\" or \"<3\", \
             found `<1`",
        ),
        (
            "any = [{ header = { \"a b\" = \"*\" } }]",
            "handle_if.any[0].header.a b: is not a valid header name",
        ),
        (
            "any = [{ not = { status = [999] } }]",
            "handle_if.any[0].not.status[0]: expected a status such as \"503\", \"5xx\" or \
             \"500-502\" within 100 to 599, found `999`",
        ),
        ("all = [{ component = \"c\" }]", "handle_if.all[0].component: no component `c`"),
        (
            "all = [{ only = { status = [503] }, method = \"GET\" }]",
            "handle_if.all[0].only: narrows a `component`, but none is named",
        ),
        (
            &deep,
            "handle_if.not.not.not.not.not.not.not.not.not: expected at most 8 conditions within \
             each other, 64 in all",
        ),
        (&many, "handle_if.any[63]: expected at most 8 conditions within each other, 64 in all"),
    ] {
        let text = format!("handle_if = {{ {condition} }}");
        let found = problems(&text, |config: CircuitBreakerConfig| {
            config.build("breaker".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{condition}");
    }
    let unknown =
        problems("handle_if = { grpc_status = [\"gone\"] }", |it: CircuitBreakerConfig| {
            it.build("breaker".into(), &Surroundings::default())
        });
    assert!(
        unknown[0].starts_with("handle_if.grpc_status[0]: unknown status `gone`; expected ok,")
    );
}

//! What is seen of a route's policies before they run: worst cases, and what is hardly meant.

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{Policy, Review, ReviewedRoute, Worst};
use http::Method;

use crate::support::{
    Fake, Surroundings, adaptive, breaker, bulkhead, cache_among, fallback, fallback_among, hedge,
    ms, rate_limiter, retry, retry_among, spread_retry, throttler, timeout,
};

/// How long an attempt takes at most.
const ATTEMPT: Duration = Duration::from_secs(305);

const ROUTE: ReviewedRoute<'_> =
    ReviewedRoute { attempt: ATTEMPT, is_grpc: false, methods: None, max_deadline: None };

fn review<const N: usize>(policies: [Arc<dyn Policy>; N]) -> Review {
    review_of(ROUTE, policies)
}

fn review_of<const N: usize>(route: ReviewedRoute<'_>, policies: [Arc<dyn Policy>; N]) -> Review {
    Review::of(&policies, route, &|_| Worst { requests: Some(1), time: Some(ATTEMPT) })
}

/// `policy.key: message`, outermost first.
fn remarks<const N: usize>(policies: [Arc<dyn Policy>; N]) -> Vec<String> {
    remarks_of(ROUTE, policies)
}

fn remarks_of<const N: usize>(
    route: ReviewedRoute<'_>,
    policies: [Arc<dyn Policy>; N],
) -> Vec<String> {
    let remarks = review_of(route, policies).remarks;
    remarks.iter().map(|it| format!("{}.{}: {}", it.policy, it.key, it.message)).collect()
}

fn worst<const N: usize>(policies: [Arc<dyn Policy>; N]) -> (Option<u64>, Option<Duration>) {
    let Worst { requests, time } = review(policies).worst;
    (requests, time)
}

#[track_caller]
fn only<const N: usize>(policies: [Arc<dyn Policy>; N], expected: &str) {
    assert_eq!(remarks(policies), [expected]);
}

const ANSWER: &str = "respond = { status = 200, body = \"no\" }";

#[test]
fn policies_that_fit_each_other_are_nothing_to_remark_on() {
    let none: [&str; 0] = [];
    let usual = [fallback(ANSWER), retry(""), breaker("") as _, timeout(1000)];
    assert_eq!(remarks(usual), none);
    assert_eq!(remarks([timeout(2000), retry(""), timeout(1000)]), none);
    assert_eq!(remarks([retry(""), bulkhead("max_concurrency = 5") as _]), none);
    assert_eq!(remarks([timeout(1000), breaker("slow_call = \"500ms\"") as _]), none);
    assert_eq!(remarks([throttler("") as _, timeout(1000)]), none);
    assert_eq!(remarks([]), none);
}

#[test]
fn a_breaker_by_endpoint_around_a_retry_sees_only_the_last_endpoint() {
    let by_endpoint = "scope = \"endpoint\"";
    only(
        [breaker(by_endpoint), retry("")],
        "breaker.scope: only the endpoint that `retry` inside asks last gets to know; put it \
         inside `retry`, so that each attempt counts",
    );
    assert_eq!(remarks([retry(""), breaker(by_endpoint)]), [""; 0]);
    let words = &review([breaker(by_endpoint)]).rows[0].words;
    assert!(words.ends_with(", each endpoint by itself"), "{words}");
}

#[test]
fn requests_and_time_at_worst() {
    assert_eq!(worst([]), (Some(1), Some(ATTEMPT)));
    assert_eq!(worst([timeout(1000)]), (Some(1), Some(ms(1000))));
    let fixed = "delay = \"100ms\"\nretry_after = false";
    assert_eq!(worst([retry(fixed), timeout(1000)]), (Some(3), Some(ms(3200))));
    // An open breaker asks for time, up to 10 s.
    let with_breaker = [retry(fixed), breaker("") as _, timeout(1000)];
    assert_eq!(worst(with_breaker), (Some(3), Some(ms(23_000))));
    assert_eq!(worst([spread_retry(""), timeout(1000)]), (Some(3), Some(ms(27_000))));
    let growing = "backoff = { delay = \"1s\", max_delay = \"4s\" }\nmax_retries = 100\n\
                   retry_after = false";
    assert_eq!(worst([retry(growing), timeout(1000)]), (Some(101), Some(ms(101_000 + 395_000))));
    assert_eq!(worst([timeout(2000), retry(growing), timeout(1000)]), (Some(101), Some(ms(2000))));
    let bounded = "max_retries = -1\nmax_duration = \"5s\"";
    assert_eq!(worst([retry(bounded), timeout(1000)]), (None, Some(ms(6000))));
    assert_eq!(worst([retry("max_retries = -1"), timeout(1000)]), (None, None));
    let waits = bulkhead("max_concurrency = 1\nmax_wait = \"3s\"");
    assert_eq!(worst([waits as _, timeout(1000)]), (Some(1), Some(ms(4000))));
}

#[test]
fn rows_say_what_each_does() {
    let rows = review([
        fallback(ANSWER),
        retry("delay = \"100ms\""),
        breaker("failure_threshold = 5") as _,
        timeout(1000),
    ])
    .rows;
    let said: Vec<(&str, &str)> = rows.iter().map(|row| (row.kind, &*row.words)).collect();
    assert_eq!(
        said,
        [
            (
                "fallback",
                "200 in place of 429, 500, 502-599, any failure; of a write, too, that may have \
                 been carried out"
            ),
            (
                "retry",
                "2 retries of 429, 500, 502-599, dns, connect, tls, connection-lost, protocol, \
                 timeout, retries-exceeded, after 100ms"
            ),
            ("circuit-breaker", "opens at 5 failures in a row, for 1m"),
            ("timeout", "up to 1s to the response head"),
        ]
    );
    let requests: Vec<_> = rows.iter().map(|row| row.worst.requests).collect();
    assert_eq!(requests, [Some(3), Some(3), Some(1), Some(1)]);
}

/// The composition of the blog post, whose handlers look at responses alone.
#[test]
fn the_post_is_told_of_both_its_faults() {
    let condition = "handle_if = { status = [\"503\"], failure = [] }";
    let policies = [
        fallback(&format!("{condition}\n{ANSWER}")),
        retry(&format!("{condition}\nretry_after = false\nreturn_last_failure = false")),
        breaker(&format!("{condition}\nfailure_threshold = 1")) as _,
        timeout(10_000),
    ];
    assert_eq!(
        remarks(policies),
        [
            "fallback.handle_if: it never answers: `retry` inside it makes `retries-exceeded` of \
             503 where it may repeat; add that to `failure`",
            "breaker.handle_if: counts dns, connect, tls, connection-lost, protocol, timeout as a \
             success, which closes a breaker however ill its upstream is; add it to `failure`",
        ]
    );
}

#[test]
fn what_never_acts_is_told() {
    only(
        [retry(""), fallback(ANSWER), timeout(1000)],
        "retry.handle_if: it never retries: `fallback` inside it answers 429, 500, 502-599, dns, \
         connect, tls, connection-lost, protocol, timeout by itself; put it outside",
    );
    only(
        [breaker("") as _, fallback(ANSWER), timeout(1000)],
        "breaker.handle_if: nothing can open it: `fallback` inside it answers 500, 502-599, dns, \
         connect, tls, connection-lost, protocol, timeout by itself; put it outside",
    );
    only(
        [retry("handle_if = { status = [], failure = [] }"), timeout(1000)],
        "retry.handle_if: it never retries: it takes nothing; leave the key out for the default",
    );
    let rejections = "handle_if = { status = [], failure = [\"circuit-open\"] }";
    only(
        [fallback(&format!("{rejections}\n{ANSWER}")), timeout(1000)],
        "fallback.handle_if: it never answers: circuit-open can't come from inside it; leave the \
         key out for the default",
    );
    only(
        [
            fallback(&format!(
                "handle_if = {{ status = [\"503\"], failure = [\"circuit-open\"] }}\n{ANSWER}"
            )),
            timeout(1000),
        ],
        "fallback.handle_if: no policy inside it makes circuit-open; leave that out of `failure`",
    );
}

#[test]
fn a_component_may_take_anything() {
    let parts = Surroundings::default().predicate("c", &Fake::new(|_| true));
    let asks = || retry_among("handle_if = { component = \"c\" }", &parts);
    let none: [&str; 0] = [];
    // What comes of an answer of a fallback nobody asks it about.
    let only_503 = format!("handle_if = {{ status = [\"503\"], failure = [] }}\n{ANSWER}");
    assert_eq!(remarks([asks(), fallback(&only_503), timeout(1000)]), none);
    assert_eq!(remarks([asks(), timeout(1000)]), none);
}

#[test]
fn parts_of_conditions_have_bounds() {
    let retry_if = |condition: &str| retry(&format!("handle_if = {condition}"));
    let answers =
        || fallback("handle_if = { status = [\"5xx\"], failure = [] }\nrespond = { status = 200 }");
    let never = |condition: &str| {
        let remarks = remarks([retry_if(condition), answers(), timeout(1000)]);
        remarks.iter().any(|remark| remark.starts_with("retry.handle_if: it never retries"))
    };
    let only_503 = "{ status = [\"503\"], failure = [] }";
    assert!(never(only_503));
    assert!(never(&format!("{{ all = [{only_503}, {{ header = {{ x-busy = \"1\" }} }}] }}")));
    assert!(!never(&format!("{{ any = [{only_503}, {{ header = {{ x-busy = \"1\" }} }}] }}")));
    assert!(!never(&format!("{{ not = {only_503} }}")));
    assert!(!never("{ attempt = \"1\" }"));
}

#[test]
fn limits_that_don_t_fit_are_told() {
    only(
        [timeout(1000), retry(""), timeout(1000)],
        "timeout.limit: never passes: `timeout` around it ends the call after 1s; give it a \
         shorter limit, or leave it out",
    );
    only(
        [timeout(1000), breaker("") as _],
        "breaker.slow_call: an upstream that hangs never counts: `timeout` outside cuts it off \
         after 1s, which says nothing to those inside; put a timeout inside, or set `slow_call`",
    );
}

#[test]
fn a_hedge_within_a_retry_is_usual() {
    let hedge = || hedge("delay = \"100ms\"") as Arc<dyn Policy>;
    let none: [&str; 0] = [];
    assert_eq!(remarks([retry(""), hedge(), timeout(1000)]), none);
    let review = review([hedge(), timeout(1000)]);
    assert_eq!(review.rows[0].words, "one more beside, after 100ms");
    assert_eq!((review.worst.requests, review.worst.time), (Some(2), Some(ms(2000))));
    only(
        [retry("max_retries = 5"), hedge(), timeout(1000)],
        "retry.max_retries: multiplies what `hedge` inside repeats: up to 12 requests for one; \
         leave it to one of them",
    );
}

#[test]
fn a_cache_may_wait_for_another_call_and_hides_no_failure() {
    let cache = |text: &str| cache_among(text, &Surroundings::default());
    let none: [&str; 0] = [];
    let usual = || [cache("stale_if_error = \"1h\""), retry(""), timeout(1000)];
    assert_eq!(remarks(usual()), none);
    assert_eq!(worst([cache("collapse_wait = \"2s\""), timeout(1000)]), (Some(1), Some(ms(3000))));
    let row = &review(usual()).rows[0];
    assert_eq!(row.words, "keeps 64MiB, waiting up to 5s for others' answers");
    assert_eq!(remarks([retry(""), cache("stale_if_error = \"1h\""), timeout(1000)]), none);
    only(
        [cache("stale_if_error = \"1h\""), fallback(ANSWER), timeout(1000)],
        "cache.handle_if: nothing stale ever stands for a failure: `fallback` inside it answers \
         429, 500, 502-599, dns, connect, tls, connection-lost, protocol, timeout, other by \
         itself; put it outside",
    );
}

#[test]
fn what_multiplies_load_is_told() {
    only(
        [retry(""), retry("max_retries = 3"), timeout(1000)],
        "retry.max_retries: multiplies what `retry` inside repeats: up to 12 requests for one; \
         leave it to one of them",
    );
    only(
        [retry("max_retries = 10"), timeout(1000)],
        "retry.max_retries: up to 11 requests for one; 2 retries are usual",
    );
    only(
        [bulkhead("max_concurrency = 5") as _, retry(""), timeout(1000)],
        "bulkhead.kind: a call keeps its place while `retry` inside waits and asks again; put it \
         inside `retry`, so that attempts take places",
    );
}

#[test]
fn times_that_never_come_are_told() {
    let ends = |limit: &str| format!("`timeout` around it ends the call after {limit}");
    only(
        [timeout(1000), retry("delay = \"2s\""), timeout(500)],
        &format!("retry.delay: 2s are never over: {}; make it much shorter than that", ends("1s")),
    );
    let growing = "backoff = { delay = \"1s\", max_delay = \"9s\" }";
    only(
        [timeout(1000), retry(growing), timeout(500)],
        &format!(
            "retry.backoff: 1s are never over: {}; make it much shorter than that",
            ends("1s")
        ),
    );
    only(
        [timeout(2000), hedge("delay = \"2s\"")],
        &format!("hedge.delay: 2s are never over: {}; make it much shorter than that", ends("2s")),
    );
    only(
        [timeout(2000), retry("max_duration = \"3s\""), timeout(500)],
        &format!(
            "retry.max_duration: never passes: {}; give it a shorter limit, or leave it out",
            ends("2s")
        ),
    );
    // What is drawn from 0 on, cut to what is left, or said by a component may come in time.
    let none: [&str; 0] = [];
    let full = format!("{growing}\njitter = \"full\"");
    assert_eq!(remarks([timeout(1000), retry(&full), timeout(500)]), none);
    let cut = "delay = \"2s\"\nmax_duration = \"500ms\"";
    assert_eq!(remarks([timeout(1000), retry(cut), timeout(500)]), none);
    assert_eq!(remarks([timeout(1001), hedge("delay = \"1s\"")]), none);
}

#[test]
fn a_deadline_of_the_listener_is_a_limit_outside_all_policies() {
    let route = ReviewedRoute { max_deadline: Some(ms(2000)), ..ROUTE };
    let policies = || [retry("delay = \"100ms\""), timeout(3000)];
    let review = review_of(route, policies());
    let times = [review.worst, review.rows[0].worst, review.rows[1].worst].map(|it| it.time);
    assert_eq!(times, [Some(ms(2000)); 3]);
    assert_eq!(
        remarks_of(route, policies()),
        ["timeout.limit: never passes: `max_deadline` around it ends the call after 2s; give it \
             a shorter limit, or leave it out"]
    );
    let none: [&str; 0] = [];
    assert_eq!(remarks_of(route, [retry("delay = \"100ms\""), timeout(1999)]), none);
    let unbounded = review_of(route, [retry("max_retries = -1")]).worst;
    assert_eq!((unbounded.requests, unbounded.time), (None, Some(ms(2000))));
}

#[test]
fn writes_that_are_answered_for_are_told_where_a_route_names_them() {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH];
    let route = ReviewedRoute { methods: Some(&methods), ..ROUTE };
    let parts = Surroundings::default().upstream("spare");
    let told = |route, condition: &str, answer: &str| {
        let text = format!("{condition}\n{answer}");
        let policies = || [fallback_among(&text, &parts), timeout(1000)];
        let row = &review_of(route, policies()).rows[0];
        let (_, hides) = row.words.split_once("; ").unwrap_or_default();
        (remarks_of(route, policies()), hides.to_owned())
    };
    let hides = "of a write, too, that may have been carried out".to_owned();
    let remark = "fallback.handle_if: answers POST, PATCH that the upstream may have carried out \
                  before it failed, and whose client never hears of that; add `method = \
                  [\"GET\", \"HEAD\"]` to it";
    assert_eq!(told(route, "", ANSWER), (vec![remark.to_owned()], hides.clone()));
    let elsewhere = "respond = { upstream = \"spare\" }";
    let remark = "fallback.handle_if: sends POST, PATCH to `spare`, too, where the upstream may \
                  have carried it out before it failed; add `method = [\"GET\", \"HEAD\"]` to it";
    let twice = "a write may be carried out by both".to_owned();
    assert_eq!(told(route, "", elsewhere), (vec![remark.to_owned()], twice));
    // Who says nothing of methods is shown it, and not warned.
    assert_eq!(told(ROUTE, "", ANSWER), (vec![], hides));
    let nothing = (vec![], String::new());
    assert_eq!(told(route, "handle_if = { method = [\"GET\", \"HEAD\"] }", ANSWER), nothing);
    let some = "handle_if = { all = [{ status = [503] }, { not = { method = \"POST\" } }] }";
    let remark = &told(route, some, ANSWER).0[0];
    assert!(remark.contains("answers PATCH that"), "{remark}");
    // Nobody was asked.
    let rejections = "handle_if = { status = [], failure = [\"connect\", \"dns\"] }";
    assert_eq!(told(route, rejections, ANSWER), nothing);
    assert_eq!(told(ReviewedRoute { methods: Some(&methods[..1]), ..ROUTE }, "", ANSWER), nothing);
    assert_eq!(told(ReviewedRoute { is_grpc: true, ..route }, "", ANSWER), nothing);
}

#[test]
fn who_waits_for_request_bodies_is_known() {
    let waits = |policy| review([retry(""), policy, timeout(1000)]).waits_for_clients;
    let rate = || rate_limiter("limit = 1\nper = \"1s\"") as Arc<dyn Policy>;
    for (policy, name) in [
        (bulkhead("max_concurrency = 1") as Arc<dyn Policy>, Some("bulkhead")),
        (rate(), Some("limiter")),
        (adaptive("") as _, Some("limiter")),
        (hedge("delay = \"100ms\"") as _, Some("hedge")),
        (throttler("") as _, None),
        (breaker("") as _, None),
    ] {
        assert_eq!(waits(policy).as_deref(), name);
    }
}

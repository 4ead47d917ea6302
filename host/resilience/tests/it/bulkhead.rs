//! Bulkheads: how many go on at once, who waits, and when a place is free again.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use fusebox_resilience::testing::{Script, read};
use fusebox_resilience::{
    Attempt, BulkheadConfig, Call, CallEvent, ErrorKind, EventKind, Outcome, PolicyConfig,
    QueueEvent, ReplayLimit, ReplayMemory, RequestBody, ResponseBody, Scope, Upstream,
};
use futures_util::future::{LocalBoxFuture, join_all};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::support::{
    Piece, Rig, Surroundings, breaker, bulkhead, ms, pieces, problems, request_body, response,
    retry, shown, timeout as limit,
};

const FULL: ErrorKind = ErrorKind::BulkheadFull;

#[tokio::test(start_paused = true)]
async fn beyond_its_places_calls_are_turned_away_at_once() {
    let bulkhead = bulkhead("max_concurrency = 2");
    let rig = Rig::new("200:delay=99*2", [bulkhead.clone()]);
    let ended = join_all([0, 10, 20, 150].map(|at| rig.get_at(at))).await;
    assert_eq!(ended, [(100, Ok(200)), (110, Ok(200)), (20, Err(FULL)), (151, Ok(200))]);
    let rejected = CallEvent::Rejected { kind: FULL, retry_after: None };
    assert_eq!(rig.events(), [(20, EventKind::Call(rejected))]);
    assert_eq!(shown(&*bulkhead, "in_use"), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_the_order_of_their_arrival_for_as_long_as_they_may() {
    let rig = Rig::new(
        "200:delay=99*9",
        [bulkhead("max_concurrency = 1\nmax_wait = \"250ms\"\nmax_queue = 3")],
    );
    let ended = join_all([0, 10, 20, 30, 40, 160].map(|at| rig.get_at(at))).await;
    assert_eq!(
        ended,
        [
            (100, Ok(200)),
            (200, Ok(200)),
            (300, Ok(200)),
            (280, Err(FULL)),
            (40, Err(FULL)),
            (400, Ok(200)),
        ],
        "the fourth waits 250 ms, the fifth finds three in the line, and the last one less"
    );
    let admitted = |waited| EventKind::Queue(QueueEvent::Admitted { waited: ms(waited) });
    let events = rig.events();
    let waits: Vec<_> =
        events.iter().filter(|(_, kind)| matches!(kind, EventKind::Queue(_))).cloned().collect();
    assert_eq!(waits, [(100, admitted(90)), (200, admitted(180)), (300, admitted(140))]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_limit_of_a_timeout_outside() {
    let rig =
        Rig::new("200:delay=99", [limit(120), bulkhead("max_concurrency = 1\nmax_wait = \"10s\"")]);
    let ended = join_all([rig.get_at(0), rig.get_at(10)]).await;
    assert_eq!(ended[1], (101, Ok(200)));
    let rig = Rig::new("hang", [bulkhead("max_concurrency = 1\nmax_wait = \"10s\""), limit(5_000)]);
    let outside = Rig::new("", [limit(50), rig.pipeline.policies()[0].clone()]);
    let hanging = rig.get();
    let waiting = async {
        sleep(ms(10)).await;
        outside.get().await
    };
    let (_, waited) = tokio::join!(hanging, waiting);
    assert_eq!(waited, (60, Err(FULL)), "not a timeout: nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_end_of_the_body_or_of_the_head() {
    for (until, second) in [("body", (120, Err(FULL))), ("head", (121, Ok(200)))] {
        let text = format!("max_concurrency = 1\nuntil = \"{until}\"");
        let bulkhead = bulkhead(&text);
        let rig = Rig::new("200:delay=99:bodydelay=100", [bulkhead.clone()]);
        let first = async {
            let call = rig.call();
            let response = rig.outcome(&call).await.expect("a response");
            assert_eq!(shown(&*bulkhead, "in_use"), u64::from(until == "body"));
            assert_eq!(rig.now(), 100);
            read(response.body).await.expect("a body");
            assert_eq!((shown(&*bulkhead, "in_use"), rig.now()), (0, 200));
        };
        let (_, ended) = tokio::join!(first, rig.get_at(120));
        assert_eq!(ended, second, "{until}");
        assert_eq!(rig.get_at(200).await, (201, Ok(200)), "{until}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_body_gives_the_place_back() {
    let bulkhead = bulkhead("max_concurrency = 1");
    let rig = Rig::new("200:bodydelay=1000", [bulkhead.clone()]);
    let call = rig.call();
    let outcome = rig.outcome(&call).await;
    assert_eq!(shown(&*bulkhead, "in_use"), 1);
    drop(outcome);
    assert_eq!(shown(&*bulkhead, "in_use"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_response_gives_its_place_back_before_the_next_attempt() {
    // Its body would come much later.
    let rig = Rig::new(
        "503:bodydelay=9000,200",
        [retry("max_retries = 1\ndelay = \"10ms\""), bulkhead("max_concurrency = 1")],
    );
    assert_eq!(rig.get().await, (12, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_neutral_for_a_breaker_and_retried_only_if_it_is_named() {
    let breaker = breaker("failure_threshold = 1");
    let rig = Rig::new(
        "200:delay=99",
        [breaker.clone(), retry("delay = \"60ms\""), bulkhead("max_concurrency = 1")],
    );
    let ended = join_all([rig.get_at(0), rig.get_at(10)]).await;
    assert_eq!(ended[1], (10, Err(FULL)));
    assert_eq!((breaker.status().counts.successes, breaker.status().counts.failures), (1, 0));
    let named = "delay = \"60ms\"\nhandle_if = { failure = [\"bulkhead-full\"] }";
    let rig = Rig::new("200:delay=99", [retry(named), bulkhead("max_concurrency = 1")]);
    let ended = join_all([rig.get_at(0), rig.get_at(10)]).await;
    assert_eq!(ended[1], (131, Ok(200)), "at 70 it is full, at 130 not");
}

// ===== slow clients =====

#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_its_body_holds_no_place() {
    let bulkhead = bulkhead("max_concurrency = 1");
    let rig = Rig::new("", [limit(50), bulkhead.clone()]);
    let [data, wait] = [Piece::Data("abc"), Piece::Wait(100)];
    let trickle = rig.request("POST", request_body(100, [data, wait, data, wait, data]));
    let others = async {
        for at in [10, 60, 110] {
            assert_eq!(rig.get_at(at).await, (at + 1, Ok(200)));
            assert_eq!(shown(&*bulkhead, "waiting_for_clients"), 1);
        }
    };
    let (slow, ()) = tokio::join!(trickle, others);
    // The limit around it stands still meanwhile.
    assert_eq!(slow, (201, Ok(200)));
    assert_eq!(rig.upstream.arrivals()[3].body, "abcabcabc");
    assert_eq!(shown(&*bulkhead, "waiting_for_clients"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_or_leaves_before_it_has_a_place_costs_nobody_one() {
    let bulkhead = bulkhead("max_concurrency = 1");
    let rig = Rig::new("", [bulkhead.clone()]);
    let broken = [Piece::Data("a"), Piece::Wait(5), Piece::Break(ErrorKind::RequestIncomplete)];
    let ended = rig.request("POST", request_body(100, broken)).await;
    assert_eq!(ended, (5, Err(ErrorKind::RequestIncomplete)));
    let stuck = request_body(100, [Piece::Data("a"), Piece::Hang]);
    assert!(timeout(ms(50), rig.request("POST", stuck)).await.is_err());
    assert_eq!(shown(&*bulkhead, "waiting_for_clients"), 0);
    assert_eq!((rig.attempts(), rig.get().await.1), (vec![], Ok(200)));
}

/// A body that no policy sends again.
fn sent_once(limit: usize, memory: usize, of: Vec<Piece>) -> (RequestBody, Rc<ReplayMemory>) {
    let memory = Rc::new(ReplayMemory::new(memory));
    let limit = ReplayLimit { bytes: limit, is_for_attempts: false };
    (RequestBody::kept_in(pieces(of).0, limit, &memory), memory)
}

#[tokio::test(start_paused = true)]
async fn what_may_be_kept_of_a_body_is_waited_for_and_the_rest_streams() {
    let (data, wait) = (Piece::Data("abcdef"), Piece::Wait(100));
    for (bytes, memory, begins) in [
        (1000, 1000, 300),
        (12, 1000, 100),
        (13, 1000, 200),
        // The second piece does not fit, and goes on as it came.
        (11, 1000, 100),
        (0, 1000, 0),
        // There is no memory for the second.
        (1000, 75, 100),
    ] {
        let (body, memory) =
            sent_once(bytes, memory, vec![data, wait, data, wait, data, wait, data]);
        let rig = Rig::new("", [bulkhead("max_concurrency = 1")]);
        assert_eq!(rig.request("POST", body).await, (301, Ok(200)), "{bytes}");
        let arrival = &rig.upstream.arrivals()[0];
        assert_eq!((rig.attempts(), &*arrival.body), (vec![begins], &b"abcdef".repeat(4)[..]));
        assert_eq!(memory.used(), 0, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gathered_body_is_whole_for_every_attempt() {
    let [data, wait] = [Piece::Data("abc"), Piece::Wait(10)];
    let body = request_body(100, [data, wait, data, Piece::Trailer("x-sum", "1")]);
    let rig = Rig::new(
        "503,close,200",
        [retry("delay = \"5ms\"\nmethods = [\"*\"]"), bulkhead("max_concurrency = 1")],
    );
    let call = rig.call_of(http::Request::post("http://service-b/"), body);
    assert_eq!(rig.send(&call).await, (23, Ok(200)));
    assert!(call.body().has_come() && call.body().can_repeat());
    let bodies: Vec<_> = rig.upstream.arrivals().into_iter().map(|it| it.body).collect();
    assert_eq!(bodies, ["abcabc"; 3]);
    let collected = call.body().for_attempt().collect().await.expect("a body");
    assert_eq!(collected.trailers().expect("trailers")["x-sum"], "1");
}

/// Answers with what it has read of the request. It holds the body until its first piece only, as
/// if an early answer had come.
struct Early;

impl Upstream for Early {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut body = call.body().for_attempt();
            let hold = call.body().hold();
            let mut seen = body.frame().await.unwrap()?.into_data().unwrap().to_vec();
            drop(hold);
            seen.extend(&read(body).await?[..]);
            attempt.finish(Ok(response(200, &[], ResponseBody::full(seen))))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_reads_on_though_what_was_gathered_is_not_held_any_more() {
    let (body, _) = sent_once(100, 1000, vec![Piece::Data("abc"), Piece::Data("def")]);
    let rig = Rig::around(Early, [bulkhead("max_concurrency = 1")]);
    let call = rig.call_of(http::Request::post("http://service-b/"), body);
    let answer = rig.outcome(&call).await.expect("a response");
    assert_eq!(read(answer.body).await.unwrap(), "abcdef");
}

// ===== conservation =====

/// One call: when it comes, how long its client takes for its body, what the upstream takes for
/// head and body, and when the client leaves.
type Visit = (u64, u64, u64, u64, u64);

async fn visits_conserve_places(places: usize, max_queue: usize, visits: Vec<Visit>) {
    let config =
        format!("max_concurrency = {places}\nmax_queue = {max_queue}\nmax_wait = \"30ms\"");
    let bulkhead = bulkhead(&config);
    let steps: Vec<_> = (visits.iter())
        .map(|(_, _, head, body, _)| format!("200:delay={head}:bodydelay={body}"))
        .collect();
    let rig = Rig::around(Script::new(&steps.join(",")), [bulkhead.clone()]);
    let inside = RefCell::new(0_u64);
    let visit = |&(at, upload, _, _, leaves): &Visit| {
        let (rig, bulkhead, inside) = (&rig, &bulkhead, &inside);
        async move {
            rig.until(at).await;
            let body = request_body(100, [Piece::Data("a"), Piece::Wait(upload), Piece::Data("b")]);
            let call: Call = rig.call_of(http::Request::post("http://service-b/"), body);
            let whole = async {
                if let Ok(response) = rig.outcome(&call).await {
                    *inside.borrow_mut() += 1;
                    assert!(shown(&**bulkhead, "in_use") <= places as u64);
                    read(response.body).await.expect("a body");
                }
            };
            let _left = timeout(ms(leaves), pin!(whole)).await;
            assert!(shown(&**bulkhead, "in_use") <= places as u64);
            assert!(shown(&**bulkhead, "waiting") <= max_queue as u64);
            assert!(rig.upstream.alive() <= places);
        }
    };
    join_all(visits.iter().map(visit)).await;
    for left in ["in_use", "waiting", "waiting_for_clients"] {
        assert_eq!(shown(&*bulkhead, left), 0, "{left}");
    }
}

proptest! {
    #[test]
    fn places_are_conserved_whenever_who_leaves(
        places in 1..4_usize,
        max_queue in 0..4_usize,
        visits in prop::collection::vec(
            (0..60_u64, 0..20_u64, 0..20_u64, 0..20_u64, 1..80_u64),
            1..30,
        ),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(visits_conserve_places(places, max_queue, visits));
    }
}

/// Polls `future` at most so many times; false: it is not over then.
async fn polls<F: Future + Unpin>(future: &mut F, most: usize) -> bool {
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == most {
            return Poll::Ready(false);
        }
        polls += 1;
        Pin::new(&mut *future).poll(cx).map(|_| true)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_leaves_nothing_behind() {
    for most in 0.. {
        let bulkhead = bulkhead("max_concurrency = 1\nmax_wait = \"1s\"");
        let rig = Rig::new("200:delay=5:bodydelay=5*9", [bulkhead.clone()]);
        let whole = async || {
            let body = request_body(100, [Piece::Data("a"), Piece::Wait(3), Piece::Data("b")]);
            let call = rig.call_of(http::Request::post("http://service-b/"), body);
            let response = rig.outcome(&call).await.expect("a response");
            read(response.body).await.expect("a body");
        };
        let cut = async {
            let mut run = Box::pin(whole());
            polls(&mut run, most).await
        };
        // One before it, which it has to wait for, and one behind it.
        let (_, is_over, _) = tokio::join!(whole(), cut, whole());
        for left in ["in_use", "waiting", "waiting_for_clients"] {
            assert_eq!(shown(&*bulkhead, left), 0, "{left} after {most} polls");
        }
        assert_eq!(rig.upstream.alive(), 0, "after {most} polls");
        if is_over {
            assert!(most >= 5, "a run of {most} polls is too short to mean anything");
            break;
        }
    }
}

/// On threads of their own, as workers are.
#[test]
fn places_are_conserved_over_workers_and_wake_each_other() {
    let bulkhead = bulkhead("max_concurrency = 2\nmax_wait = \"1m\"\nmax_queue = 1000");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime").block_on(async {
                    let rig = Rig::around(Script::new(""), [bulkhead.clone()]);
                    let ended = join_all((0..50).map(|_| rig.get())).await;
                    assert!(ended.iter().all(|(_, ended)| *ended == Ok(200)), "{ended:?}");
                });
            });
        }
    });
    assert_eq!((shown(&*bulkhead, "in_use"), shown(&*bulkhead, "waiting")), (0, 0));
}

// ===== configuration =====

#[test]
fn configuration_errors_name_the_key() {
    let problems = |text: &str| {
        problems(text, |config: BulkheadConfig| {
            config.build("bulkhead".into(), &Surroundings::default())
        })
    };
    assert_eq!(problems(""), ["missing field `max_concurrency`"]);
    let of = |text: &str| problems(&format!("max_concurrency = 1\n{text}"));
    assert_eq!(of("max_wait = \"0s\"\nmax_queue = 0\nuntil = \"head\""), [""; 0]);
    assert_eq!(
        problems("max_concurrency = 0\nmax_queue = 1000001\nmax_wait = \"1us\""),
        [
            "max_concurrency: must be from 1 to 1000000, is 0",
            "max_wait: must be 0s or at least 1ms, is 1us",
            "max_queue: must be from 0 to 1000000, is 1000001",
        ]
    );
    assert_eq!(
        of("until = \"trailers\""),
        ["unknown variant `trailers`, expected `head` or `body`"]
    );
    assert!(of("max_queue = -1")[0].contains("invalid value"), "{:?}", of("max_queue = -1"));
    assert!(of("unknown = 1")[0].contains("unknown field `unknown`"));
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let warnings = |text: &str| {
        let config: BulkheadConfig =
            toml::from_str(&format!("max_concurrency = 1\n{text}")).unwrap();
        let warnings = config.warnings().into_iter();
        warnings.map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>()
    };
    assert_eq!(warnings("max_queue = 5"), ["max_queue: nobody waits without a `max_wait`"]);
    assert_eq!(
        warnings("max_queue = 0\nmax_wait = \"1s\""),
        ["max_wait: nobody waits with a `max_queue` of 0"]
    );
    for sound in ["", "max_wait = \"1s\"", "max_queue = 0", "max_queue = 1\nmax_wait = \"1s\""] {
        assert_eq!(warnings(sound), [""; 0], "{sound}");
    }
}

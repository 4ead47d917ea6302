//! Rate limiters: how many begin in a time, who waits and for how long, and what clients are told.

use fusebox_resilience::testing::Script;
use fusebox_resilience::{
    CallEvent, ErrorKind, EventKind, PolicyConfig, QueueEvent, RateLimiterConfig,
};
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::support::{
    Piece, Rig, Surroundings, breaker, fallback, ms, problems, rate_limiter, request_body, retry,
    shown, timeout as limit,
};

const LIMITED: ErrorKind = ErrorKind::RateLimited;

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_then_one_for_each_token() {
    let limiter = rate_limiter("limit = 3\nper = \"200ms\"");
    let rig = Rig::new("", [limiter.clone()]);
    let ended = join_all([150, 160, 170, 230, 240, 250, 300].map(|at| rig.get_at(at))).await;
    let statuses: Vec<_> = ended.iter().map(|(_, ended)| ended.is_ok()).collect();
    assert_eq!(statuses, [true, true, true, true, false, false, true]);
    let waits: Vec<_> = (rig.events().into_iter())
        .map(|(at, kind)| match kind {
            EventKind::Call(CallEvent::Rejected { kind: LIMITED, retry_after }) => {
                (at, retry_after.expect("it is known").as_micros())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(waits, [(240, 43_333), (250, 33_333)], "the next is there at 283.3");
    rig.until(10_000).await;
    assert_eq!((shown(&*limiter, "tokens"), shown(&*limiter, "burst")), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_spaces_calls_evenly_without_a_grid() {
    let rig = Rig::new("", [rate_limiter("limit = 5\nper = \"500ms\"\nburst = 1")]);
    let ended = join_all([70, 130, 171, 270].map(|at| rig.get_at(at))).await;
    let statuses: Vec<_> = ended.iter().map(|(_, ended)| ended.is_ok()).collect();
    assert_eq!(statuses, [true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_the_order_of_their_arrival_for_as_long_as_they_may() {
    let limiter =
        rate_limiter("limit = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"300ms\"\nmax_queue = 4");
    let rig = Rig::new("", [limiter.clone()]);
    let ended = join_all([0, 10, 20, 30, 40, 120].map(|at| rig.get_at(at))).await;
    assert_eq!(
        ended,
        [
            (1, Ok(200)),
            (101, Ok(200)),
            (201, Ok(200)),
            (301, Ok(200)),
            (40, Err(LIMITED)),
            (401, Ok(200)),
        ],
        "at 40 it would have to wait for 360 ms, at 120 for 280"
    );
    assert_eq!(rig.attempts(), [0, 100, 200, 300, 400]);
    let admitted = |waited| EventKind::Queue(QueueEvent::Admitted { waited: ms(waited) });
    assert!(rig.events().contains(&(400, admitted(280))), "{:?}", rig.events());
    assert_eq!((shown(&*limiter, "waiting"), shown(&*limiter, "tokens")), (0, 0));
    // The line's bound.
    let limiter =
        rate_limiter("limit = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"9s\"\nmax_queue = 2");
    let rig = Rig::new("", [limiter]);
    let ended = join_all([0, 10, 20, 30].map(|at| rig.get_at(at))).await;
    assert_eq!(ended[3], (30, Err(LIMITED)));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_the_line() {
    let limiter = rate_limiter("limit = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"1s\"");
    let rig = Rig::new("", [limiter]);
    // The one that comes at 100 runs before the one whose turn that is.
    let ended = join_all([100, 0, 10].map(|at| rig.get_at(at))).await;
    assert_eq!(ended, [(201, Ok(200)), (1, Ok(200)), (101, Ok(200))]);
}

#[tokio::test(start_paused = true)]
async fn those_behind_one_who_leaves_move_up() {
    let limiter = rate_limiter("limit = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"1s\"");
    let rig = Rig::new("", [limiter.clone()]);
    let leaves = |at, after| {
        let rig = &rig;
        async move {
            rig.until(at).await;
            assert!(timeout(ms(after), rig.get()).await.is_err());
        }
    };
    let waits = async {
        let ended = join_all([0, 30, 40].map(|at| rig.get_at(at))).await;
        assert_eq!(ended, [(1, Ok(200)), (101, Ok(200)), (201, Ok(200))]);
    };
    // The first in the line, one in its middle, and one at its end.
    tokio::join!(waits, leaves(10, 20), leaves(35, 20), leaves(50, 20));
    assert_eq!(shown(&*limiter, "waiting"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_wait_that_would_end_past_the_deadline_is_begun() {
    let limiter = rate_limiter("limit = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"1s\"");
    let rig = Rig::new("", [limit(50), limiter]);
    let ended = join_all([0, 10, 55].map(|at| rig.get_at(at))).await;
    assert_eq!(ended, [(1, Ok(200)), (10, Err(LIMITED)), (101, Ok(200))]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_neutral_for_a_breaker_and_a_retry_that_names_it_waits_as_asked() {
    let breaker = breaker("failure_threshold = 1");
    let named = "delay = \"1ms\"\nhandle_if = { failure = [\"rate-limited\"] }";
    let limiter = rate_limiter("limit = 10\nper = \"1s\"\nburst = 1");
    let rig = Rig::new("", [retry(named), breaker.clone(), limiter]);
    let ended = join_all([rig.get_at(0), rig.get_at(10)]).await;
    assert_eq!(ended, [(1, Ok(200)), (101, Ok(200))]);
    assert_eq!((breaker.status().counts.successes, breaker.status().counts.failures), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_its_body_takes_its_token_when_it_is_there() {
    let limiter = rate_limiter("limit = 1\nper = \"100ms\"");
    let rig = Rig::new("", [limiter.clone()]);
    let [data, wait] = [Piece::Data("abc"), Piece::Wait(100)];
    let trickle = rig.request("POST", request_body(100, [data, wait, data]));
    let other = async {
        rig.until(10).await;
        assert_eq!((shown(&*limiter, "waiting_for_clients"), shown(&*limiter, "tokens")), (1, 1));
        assert_eq!(rig.get().await, (11, Ok(200)));
    };
    assert_eq!(tokio::join!(trickle, other).0, (100, Err(LIMITED)), "taken at 10");
    assert_eq!(shown(&*limiter, "waiting_for_clients"), 0);
}

#[tokio::test(start_paused = true)]
async fn responses_tell_what_is_left_if_they_shall() {
    let fields = |headers: &http::HeaderMap| {
        let of = |name| {
            let all = headers.get_all(name).iter();
            all.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
        };
        (of("ratelimit-policy"), of("ratelimit"))
    };
    let limiter = rate_limiter("limit = 2\nper = \"10s\"\nheaders = true");
    let rig = Rig::new("", [limiter.clone()]);
    let (first, second) = (rig.call(), rig.call());
    let response = rig.outcome(&first).await.expect("a response");
    let policy = "\"limiter\";q=2;w=10".to_owned();
    assert_eq!(fields(&response.headers.to_map()), (policy.clone(), "\"limiter\";r=1;t=5".into()));
    rig.outcome(&second).await.expect("a response");
    let error = rig.outcome(&rig.call()).await.expect_err("too many");
    let told = fields(error.headers().expect("there are some"));
    assert_eq!(told, (policy, "\"limiter\";r=0;t=10".into()));

    // Two of them, the inner one's first; half a second is no window that can be told.
    let inner = rate_limiter("limit = 4\nper = \"500ms\"\nheaders = true");
    let rig = Rig::new("", [limiter, inner]);
    rig.until(60_000).await;
    let response = rig.outcome(&rig.call()).await.expect("a response");
    assert_eq!(
        fields(&response.headers.to_map()),
        (
            "\"limiter\";q=4, \"limiter\";q=2;w=10".into(),
            "\"limiter\";r=3;t=1, \"limiter\";r=1;t=5".into()
        )
    );
    let rig = Rig::new("", [rate_limiter("limit = 1\nper = \"1s\"")]);
    let response = rig.outcome(&rig.call()).await.expect("a response");
    assert_eq!(fields(&response.headers.to_map()), (String::new(), String::new()));
    let error = rig.outcome(&rig.call()).await.expect_err("too many");
    assert!(error.headers().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_it() {
    let rig = Rig::new(
        "",
        [fallback("respond = { status = 203 }"), rate_limiter("limit = 1\nper = \"1s\"")],
    );
    assert_eq!(join_all([rig.get(), rig.get()]).await, [(1, Ok(200)), (0, Ok(203))]);
}

// ===== the bound =====

async fn no_stretch_has_too_many(limit: u64, per: u64, burst: u64, calls: Vec<(u64, u64)>) {
    let config = format!(
        "limit = {limit}\nper = \"{per}ms\"\nburst = {burst}\nmax_wait = \"{}ms\"\nmax_queue = 5",
        2 * per
    );
    let limiter = rate_limiter(&config);
    let rig = Rig::around(Script::new(""), [limiter.clone()]);
    let visit = |&(at, leaves): &(u64, u64)| {
        let rig = &rig;
        async move {
            rig.until(at).await;
            let _left = timeout(ms(leaves), rig.get()).await;
        }
    };
    join_all(calls.iter().map(visit)).await;
    let admitted = rig.attempts();
    for (first, from) in admitted.iter().enumerate() {
        for (count, to) in admitted[first..].iter().enumerate() {
            assert!((count as u64 + 1) * per <= burst * per + (to - from) * limit, "{admitted:?}");
        }
    }
    assert_eq!(shown(&*limiter, "waiting"), 0);
    rig.until(1_000_000).await;
    assert_eq!(shown(&*limiter, "tokens"), burst);
}

proptest! {
    #[test]
    fn whoever_waits_and_leaves_no_stretch_of_time_has_too_many(
        limit in 1..10_u64,
        per in 1..200_u64,
        burst in 1..5_u64,
        calls in prop::collection::vec((0..300_u64, 1..300_u64), 1..40),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(no_stretch_has_too_many(limit, per, burst, calls));
    }
}

/// On threads of their own, as workers are.
#[test]
fn calls_on_all_workers_wait_in_one_line() {
    let limiter =
        rate_limiter("limit = 1000\nper = \"1s\"\nburst = 10\nmax_wait = \"1m\"\nmax_queue = 1000");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime").block_on(async {
                    let rig = Rig::around(Script::new(""), [limiter.clone()]);
                    let ended = join_all((0..20).map(|_| rig.get())).await;
                    assert!(ended.iter().all(|(_, ended)| *ended == Ok(200)), "{ended:?}");
                });
            });
        }
    });
    assert_eq!(shown(&*limiter, "waiting"), 0);
}

// ===== configuration =====

#[test]
fn configuration_errors_name_the_key() {
    let problems = |text: &str| {
        problems(text, |config: RateLimiterConfig| {
            config.build("limiter".into(), &Surroundings::default())
        })
    };
    assert_eq!(problems("per = \"1s\""), ["missing field `limit`"]);
    assert_eq!(problems("limit = 1"), ["missing field `per`"]);
    let sound = "limit = 1\nper = \"1ms\"\nburst = 1000000000\nmax_queue = 0\nheaders = true";
    assert_eq!(problems(sound), [""; 0]);
    assert_eq!(
        problems("limit = 0\nper = \"0s\"\nburst = 0\nmax_wait = \"1us\"\nmax_queue = 1000001"),
        [
            "limit: must be from 1 to 1000000000, is 0",
            "per: must be at least 1ms, is 0s",
            "burst: must be from 1 to 1000000000, is 0",
            "max_wait: must be 0s or at least 1ms, is 1us",
            "max_queue: must be from 0 to 1000000, is 1000001",
        ]
    );
    let named = |name: &str| {
        let config: RateLimiterConfig =
            toml::from_str("limit = 1\nper = \"1s\"\nheaders = true").unwrap();
        let built = config.build(name.into(), &Surroundings::default());
        built.err().map(|problems| problems[0].path.clone())
    };
    assert_eq!(named("a \"b\" \\c"), None);
    assert_eq!(named("größe").as_deref(), Some("headers"));
}

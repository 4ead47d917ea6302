//! What is stale: when it stands for a failure, and when it is used while it is being validated.

use fusebox_resilience::{
    CacheEvent, CircuitState, ErrorKind, EventKind, Outcome, Policy, StaleReason,
};
use tokio::task::LocalSet;

use super::cache;
use super::origin::{Clients, Origin, answer, answer_with};
use crate::support::{Piece, breaker, response_body, retry, timeout};

const FRESH: &[&str] = &["cache-control: max-age=1", "etag: \"a\""];

/// Answers once, and then with what `then` makes.
fn once_then(then: fn() -> Outcome) -> Origin {
    Origin::new(move |asked, _| match asked.number {
        1 => Ok(answer(200, FRESH, "kept")),
        _ => then(),
    })
}

#[tokio::test(start_paused = true)]
async fn it_stands_for_failures_for_so_long() {
    for (then, received) in [
        (once_then(|| Ok(answer(503, &[], "down"))), "fwd-status=503; "),
        (once_then(|| Err(ErrorKind::ConnectionRefused.into())), ""),
    ] {
        let clients = Clients::of(then, [cache("stale_if_error = '10s'") as _]);
        clients.get("/", &[]).await;
        clients.until(2_000).await;
        let said = clients.get("/", &[]).await;
        assert_eq!(said, format!("200 kept [fwd=stale; {received}detail=stale-if-error, age 2]"));
        let told = clients.recorder.kinds().into_iter().any(|kind| {
            let EventKind::Cache(CacheEvent::ServedStale { reason, .. }) = kind else {
                return false;
            };
            reason == StaleReason::Error
        });
        assert!(told);
        clients.until(11_100).await;
        let said = clients.get("/", &[]).await;
        assert!(["503 down [fwd=stale]", "connect"].contains(&&*said), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_get_has_brought_stands_for_the_failure_of_a_head() {
    let down = || once_then(|| Ok(answer(503, &[], "down")));
    let clients = Clients::of(down(), [cache("stale_if_error = '10s'") as _]);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    let head = || http::Request::head("/");
    let said = "200 kept [fwd=stale; fwd-status=503; detail=stale-if-error, age 2]";
    assert_eq!(clients.send(head()).await, said);
    assert_eq!(clients.get("/", &[]).await, said, "the same");
    let unkept = head().header("cache-control", "no-store");
    assert_eq!(clients.send(unkept).await, "503 down [fwd=stale]");
    assert_eq!(clients.origin.said()[1..3], ["HEAD /", "GET / if-none-match: \"a\""]);
    clients.until(11_100).await;
    assert_eq!(clients.send(head()).await, "503 down [fwd=stale]");

    let inner = breaker("failure_threshold = 1\ndelay = '1m'");
    let clients = Clients::of(down(), [cache("stale_if_error = '10s'") as _, inner as _]);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    clients.send(head()).await;
    let said = clients.send(head()).await;
    assert_eq!(said, "200 kept [fwd=stale; detail=stale-if-error, age 2]", "nobody was asked");
    assert_eq!(clients.origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_stands_for_rejections_and_is_a_success_outside() {
    let inner = breaker("failure_threshold = 1\ndelay = '1m'");
    let outer = breaker("failure_threshold = 1");
    let policies: [std::sync::Arc<dyn Policy>; 4] = [
        outer.clone(),
        cache("stale_if_error = '10m'"),
        retry("max_retries = 1\ndelay = '1ms'"),
        inner.clone(),
    ];
    let clients = Clients::of(once_then(|| Ok(answer(500, &[], "down"))), policies);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    let said = clients.get("/", &[]).await;
    assert!(said.starts_with("200 kept [fwd=stale;"), "{said}");
    assert_eq!(inner.status().state, CircuitState::Open);
    let said = clients.get("/", &[]).await;
    assert_eq!(said, "200 kept [fwd=stale; detail=stale-if-error, age 2]", "it is rejected inside");
    assert_eq!(outer.status().state, CircuitState::Closed);
    assert_eq!(clients.origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_forbids_it_is_kept_to() {
    let origin = Origin::new(|asked, _| match asked.number {
        1 => Ok(answer(200, &["cache-control: max-age=1, must-revalidate"], "kept")),
        _ => Ok(answer(503, &[], "down")),
    });
    let cache = cache("stale_if_error = '10s'\nstale_while_revalidate = '10s'");
    let clients = Clients::of(origin, [cache as _]);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    assert_eq!(clients.get("/", &[]).await, "503 down [fwd=stale]");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_is_a_failure_and_one_outside_is_not_its_affair() {
    let origin = || {
        let origin = once_then(|| Ok(answer(200, FRESH, "late")));
        origin.takes(10);
        origin
    };
    let cache = || cache("stale_if_error = '10s'");
    let inside = Clients::of(origin(), [cache() as _, timeout(50)]);
    let outside = Clients::of(origin(), [timeout(50), cache() as _]);
    for clients in [&inside, &outside] {
        clients.get("/", &[]).await;
        clients.origin.takes(1_000);
    }
    inside.until(2_000).await;
    assert!(inside.get("/", &[]).await.starts_with("200 kept"));
    assert_eq!(outside.get("/", &[]).await, "timeout");
}

#[tokio::test(start_paused = true)]
async fn it_is_used_while_it_is_being_validated_once() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|asked, _| {
                let fields = ["cache-control: max-age=1, stale-while-revalidate=5", "etag: \"a\""];
                Ok(answer(200, &fields, &asked.number.to_string()))
            });
            origin.takes(100);
            let clients = Clients::of(origin, [cache("") as _]);
            clients.get("/", &[]).await;
            clients.until(2_500).await;
            for _ in 0..5 {
                let said = clients.get("/", &[]).await;
                assert_eq!(said, "200 1 [hit; ttl=-1; detail=stale-while-revalidate, age 2]");
            }
            assert_eq!(clients.now(), 2_500, "nobody has waited");
            clients.until(2_700).await;
            assert_eq!(clients.get("/", &[]).await, "200 2 [hit; ttl=1, age 0]");
            assert_eq!(clients.origin.said(), ["GET /", "GET / if-none-match: \"a\""]);
            clients.until(9_000).await;
            assert_eq!(clients.get("/", &[]).await, "200 3 [fwd=stale; stored]");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_not_kept_and_what_is_kept_stays() {
    let origin = Origin::new(|asked, _| {
        let broken = [Piece::Data("half"), Piece::Break(ErrorKind::ConnectionTerminated)];
        Ok(match asked.number {
            1 => answer(200, FRESH, "kept"),
            2 => answer_with(200, FRESH, response_body(broken)),
            _ => answer(503, &[], "down"),
        })
    });
    let clients = Clients::of(origin, [cache("stale_if_error = '10s'") as _]);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    let said = clients.get("/", &[]).await;
    assert_eq!(said, "200 …connection-lost [fwd=stale; stored]");
    let kinds = clients.recorder.kinds();
    assert!(kinds.contains(&CacheEvent::Broken { kind: ErrorKind::ConnectionTerminated }.into()));
    assert!(clients.get("/", &[]).await.starts_with("200 kept"));
}

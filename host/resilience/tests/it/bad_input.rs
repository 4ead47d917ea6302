//! What clients and upstreams may send without end: keys that nobody has had before, bodies that
//! are far too long, clocks that are set.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fusebox_resilience::testing;
use fusebox_resilience::{
    Attempt, Call, Error, Observers, Outcome, Pipeline, Policy, Random, Request, RequestBody,
    ResponseBody, Scope, Upstream, Worker,
};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use http::HeaderValue;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use crate::support::{
    Surroundings, adaptive, breaker, bulkhead, cache_among, rate_limiter, response, shown,
    throttler,
};

/// Answers at once.
struct Ready(fn() -> Outcome);

impl Upstream for Ready {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let attempt = Attempt::begin(call, scope, &"service-b".into());
        Box::pin(async move { attempt.finish((self.0)()) })
    }
}

fn well() -> Outcome {
    Ok(response(200, &[], ResponseBody::full("well")))
}

/// So many tenants have a state of their own.
const MAX_KEYS: u64 = 1_000;

/// So many are invented in each test; `FUSEBOX_TENANTS=1000000` says otherwise.
fn invented() -> u32 {
    let said = std::env::var("FUSEBOX_TENANTS").ok();
    said.map_or(10_000, |said| said.parse().expect("FUSEBOX_TENANTS: a number"))
}

/// Whether the call of a tenant is answered.
fn is_served(pipeline: &Pipeline, worker: &Rc<Worker>, tenant: &str) -> bool {
    let request = http::Request::get("http://service-b/").header("x-tenant", tenant);
    let call = testing::call_on("1", request, RequestBody::empty(), worker.clone());
    let upstream = Ready(well);
    let outcome = pipeline.execute(&call, &Scope::new(&upstream)).now_or_never();
    outcome.expect("it waits for nobody").is_ok()
}

#[tokio::test(start_paused = true)]
async fn however_many_tenants_are_invented_memory_is_bounded_and_who_was_there_is_served() {
    let keys = format!("key = {{ header = \"x-tenant\" }}\nmax_keys = {MAX_KEYS}\n");
    let of = |text: &str| format!("{text}\n{keys}");
    let policies: [Arc<dyn Policy>; 5] = [
        breaker(&of("")),
        bulkhead(&of("max_concurrency = 1")),
        // Of an invented one no bucket is full for an hour, so none of them may be forgotten.
        rate_limiter(&of("limit = 2000\nper = \"1h\"")),
        throttler(&of("")),
        adaptive(&of("")),
    ];
    for policy in policies {
        let worker = Worker::new(Observers::default(), Random::with_seed(1)).into();
        let pipeline = Pipeline::new([policy.clone()]);
        let kind = policy.kind();
        for number in 0..invented() {
            if number % 1_000 == 0 {
                assert!(is_served(&pipeline, &worker, "honest"), "{kind} after {number}");
            }
            is_served(&pipeline, &worker, &format!("invented-{number}"));
        }
        let count = shown(&*policy, "keys");
        assert!(count <= MAX_KEYS && count > MAX_KEYS / 2, "{kind}: {count}");
        let keys = policy.keys().expect("it has some");
        // Where newcomers may take the places of others they do, else they share one state.
        assert_eq!(keys.overflow.is_some(), kind == "rate-limiter", "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_open_stays_so_however_many_tenants_are_invented() {
    let breaker = breaker(
        "failure_threshold = 1\ndelay = \"1h\"\nkey = { header = \"x-tenant\" }\nmax_keys = 100",
    );
    let open = breaker.command("open", &["honest".to_owned()], &Observers::default());
    assert_eq!(open, Ok("open"));
    let worker = Worker::new(Observers::default(), Random::with_seed(1)).into();
    let pipeline = Pipeline::new([breaker.clone() as Arc<dyn Policy>]);
    for number in 0..invented() {
        assert!(is_served(&pipeline, &worker, &format!("invented-{number}")));
    }
    assert!(!is_served(&pipeline, &worker, "honest"));
    assert_eq!((shown(&*breaker, "keys"), shown(&*breaker, "open_keys")), (100, 1));
}

// ===== cache =====

/// A body of as many pieces of 64 KiB as are left, and whose length nobody knows.
struct Endless {
    left: u32,
    most_kept: Rc<Cell<u64>>,
    cache: Arc<dyn Policy>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
        let kept = shown(&*self.cache, "bytes");
        self.most_kept.set(self.most_kept.get().max(kept));
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_goes_through_a_cache_that_keeps_no_more_of_it_than_it_may() {
    let text = "default_ttl = \"1h\"\nmax_size = \"4MiB\"\nmax_entry = \"256KiB\"";
    let cache = cache_among(text, &Surroundings::default());
    let most_kept = Rc::new(Cell::new(0));
    struct Long(Arc<dyn Policy>, Rc<Cell<u64>>);
    impl Upstream for Long {
        fn attempt<'a>(
            &'a self,
            call: &'a Call,
            scope: &'a Scope<'a>,
        ) -> LocalBoxFuture<'a, Outcome> {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let (cache, most_kept) = (self.0.clone(), self.1.clone());
            let body = Endless { left: 16 << 10, most_kept, cache };
            let body = ResponseBody::stream(Box::pin(body));
            Box::pin(async move { attempt.finish(Ok(response(200, &[], body))) })
        }
    }
    let upstream = Long(cache.clone(), most_kept.clone());
    let pipeline = Pipeline::new([cache.clone()]);
    let call = testing::call("1", Observers::default());
    let local = tokio::task::LocalSet::new();
    let read = local.run_until(async {
        let outcome = pipeline.execute(&call, &Scope::new(&upstream)).await;
        let mut body = outcome.expect("a response").body;
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.expect("a piece").data_ref().map_or(0, Bytes::len);
        }
        read
    });
    assert_eq!(read.await, 1 << 30);
    let most_kept = most_kept.get();
    assert!(most_kept > 0 && most_kept <= 256 << 10, "{most_kept} bytes were kept at once");
    assert_eq!(["bytes", "entries", "fills"].map(|name| shown(&*cache, name)), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_nothing_stale_and_nothing_fresh() {
    let cache = cache_among("", &Surroundings::default());
    let pipeline = Pipeline::new([cache.clone()]);
    let upstream =
        Ready(|| Ok(response(200, &[("cache-control", "max-age=60")], ResponseBody::full("well"))));
    let asks = |seconds: u64| {
        let (head, ()) = http::Request::get("/").body(()).expect("a request").into_parts();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let request = Request::new(HeaderValue::from_static("1"), "test".into(), head, now);
        let worker = Worker::new(Observers::default(), Random::with_seed(1));
        let call = Call::new(request, RequestBody::empty(), worker.into());
        let outcome = pipeline.execute(&call, &Scope::new(&upstream)).now_or_never();
        let response = outcome.expect("it waits for nobody").expect("a response");
        let said = response.headers.to_map()["cache-status"].to_str().expect("text").to_owned();
        said.contains("hit")
    };
    let year = 365 * 24 * 3600;
    assert!(!asks(50 * year), "it is asked for");
    assert!(asks(50 * year) && asks(51 * year) && asks(0), "a minute is not over");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(!asks(50 * year), "now it is, whatever the clock says");
}

//! Workers that ask for the same at once, in every order in which they can get there: one request
//! for all, each gets all of its answer, nobody is left waiting, and nothing stays.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use loom::thread::{Builder, JoinHandle};

use super::*;
use crate::attempt::Attempt;
use crate::body::{RequestBody, ResponseBody};
use crate::error::Error;
use crate::policy::Pipeline;
use crate::scope::Upstream;
use crate::sync::models::{block_on, model};
use crate::testing::{NoParts, call, call_with};

/// An entry takes two of these, and no third one.
static PIECE: [u8; 200] = [b'x'; 200];

/// A body that is here in pieces.
struct Pieces {
    left: usize,
    is_length_known: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }

    fn size_hint(&self) -> SizeHint {
        let length = (self.left * PIECE.len()) as u64;
        if self.is_length_known { SizeHint::with_exact(length) } else { SizeHint::default() }
    }
}

/// A cache, and the upstream behind it.
struct Site {
    pipeline: Pipeline,
    cache: Arc<SharedCache>,
    pieces: usize,
    is_length_known: bool,
    asked: AtomicUsize,
    /// Each makes what is answered from then on longer by a piece.
    changes: loom::sync::atomic::AtomicUsize,
}

impl Upstream for Site {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let attempt = Attempt::begin(call, scope, &"service-b".into());
        self.asked.fetch_add(1, Ordering::SeqCst);
        let changes = match call.head().method {
            Method::GET => self.changes.load(Ordering::SeqCst),
            _ => self.changes.fetch_add(1, Ordering::SeqCst) + 1,
        };
        let (left, is_length_known) = (self.pieces + changes, self.is_length_known);
        let body = ResponseBody::stream(Box::pin(Pieces { left, is_length_known }));
        let response = Response::new(StatusCode::OK, HeaderMap::new(), body);
        Box::pin(async move { attempt.finish(Ok(response)) })
    }
}

/// An upstream that takes its time.
struct Silent;

impl Upstream for Silent {
    fn attempt<'a>(&'a self, _: &'a Call, _: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(pending())
    }
}

impl Site {
    fn new(pieces: usize, is_length_known: bool) -> Arc<Self> {
        let ttl = ConfigDuration::from_secs(60);
        let config =
            CacheConfig { default_ttl: ttl, max_entry: LEAST_ENTRY, ..CacheConfig::default() };
        let cache = config.build("cache".into(), &NoParts).expect("a sound cache");
        Arc::new(Self {
            cache: cache.0.clone(),
            pipeline: Pipeline::new([Arc::new(cache) as Arc<dyn Policy>]),
            pieces,
            is_length_known,
            asked: AtomicUsize::new(0),
            changes: Default::default(),
        })
    }

    /// The body that a client of this worker gets.
    fn get(&self) -> Bytes {
        block_on(async {
            let call = call("1", Observers::default());
            let outcome = self.pipeline.execute(&call, &Scope::new(self)).await;
            let body = outcome.expect("a response").body;
            body.collect().await.expect("a whole body").to_bytes()
        })
    }

    /// A request that changes what is answered.
    fn post(&self) {
        let request = http::Request::post("http://service-b/");
        let call = call_with("3", request, RequestBody::empty(), Observers::default());
        block_on(self.pipeline.execute(&call, &Scope::new(self))).expect("a response");
    }

    /// A client that leaves at once.
    fn look(&self, upstream: &dyn Upstream) {
        let call = call("2", Observers::default());
        let scope = Scope::new(upstream);
        let mut asks = self.pipeline.execute(&call, &scope);
        block_on(poll_fn(|cx| Poll::Ready(asks.as_mut().poll(cx).is_ready())));
    }

    fn assert_all_of_it(&self, body: &Bytes) {
        assert_eq!(body, &PIECE.repeat(self.pieces));
    }

    fn assert_idle(&self) {
        let store = &self.cache.store;
        assert_eq!((store.filling(), store.room.taken()), (0, 0));
    }
}

/// The timer of those who wait is one of tokio's; it is never over.
fn in_all_orders(of: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let of = Arc::new(of);
    model(move || {
        let of = of.clone();
        on_a_worker(move || of()).join().unwrap();
    });
}

/// A call takes more of a stack than threads have in a model.
fn on_a_worker<T: Send + 'static>(of: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().stack_size(64 << 10).spawn(of).expect("a thread")
}

#[test]
fn one_request_is_made_for_all_workers() {
    for is_length_known in [true, false] {
        in_all_orders(move || {
            let site = Site::new(2, is_length_known);
            let other = site.clone();
            let other = on_a_worker(move || other.get());
            site.assert_all_of_it(&site.get());
            site.assert_all_of_it(&other.join().unwrap());
            assert_eq!(site.asked.load(Ordering::SeqCst), 1);
            site.assert_idle();
        });
    }
}

#[test]
fn before_the_head_another_worker_takes_the_place_of_one_who_leaves() {
    in_all_orders(|| {
        let site = Site::new(1, true);
        let [leaves, stays] = [(); 2].map(|()| site.clone());
        let leaves = on_a_worker(move || leaves.look(&Silent));
        let stays = on_a_worker(move || stays.get());
        site.assert_all_of_it(&site.get());
        site.assert_all_of_it(&stays.join().unwrap());
        leaves.join().unwrap();
        assert_eq!(site.asked.load(Ordering::SeqCst), 1);
        site.assert_idle();
    });
}

#[test]
fn one_who_leaves_later_takes_nobody_along() {
    in_all_orders(|| {
        let site = Site::new(2, true);
        let leaves = site.clone();
        let leaves = on_a_worker(move || leaves.look(&*leaves));
        site.assert_all_of_it(&site.get());
        leaves.join().unwrap();
        assert_eq!(site.asked.load(Ordering::SeqCst), 1);
        site.assert_idle();
    });
}

#[test]
fn when_it_outgrows_an_entry_each_gets_all_of_it_by_itself() {
    in_all_orders(|| {
        let site = Site::new(4, false);
        let other = site.clone();
        let other = on_a_worker(move || other.get());
        site.assert_all_of_it(&site.get());
        site.assert_all_of_it(&other.join().unwrap());
        assert_eq!(site.asked.load(Ordering::SeqCst), 2);
        site.assert_idle();
    });
}

#[test]
fn nobody_gets_what_was_before_a_change_after_it() {
    in_all_orders(|| {
        let site = Site::new(1, true);
        let other = site.clone();
        let other = on_a_worker(move || other.get());
        site.post();
        assert_eq!(site.get(), PIECE.repeat(2));
        other.join().unwrap();
        assert_eq!(site.get(), PIECE.repeat(2), "nor is it kept when it comes whole after that");
        site.assert_idle();
    });
}

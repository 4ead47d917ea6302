//! Fills: one request for all who ask meanwhile.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use fusebox_resilience::{CacheEvent, CircuitState, ErrorKind, Policy, ResponseBody};
use futures_util::future::{FutureExt, join_all};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::cache;
use super::origin::{Clients, Origin, answer, answer_with, get, shown};
use crate::support::{self, Piece, breaker, ms, response_body};

const FRESH: &[&str] = &["cache-control: max-age=60"];

/// A body of a known length that comes in pieces, 10 ms apart.
fn slow(pieces: &[&'static str]) -> ResponseBody {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let pieces: Vec<_> =
        pieces.iter().flat_map(|piece| [Piece::Wait(10), Piece::Data(piece)]).collect();
    ResponseBody::stream(Box::pin(Sized { body: response_body(pieces), left: length }))
}

struct Sized {
    body: ResponseBody,
    left: usize,
}

impl http_body::Body for Sized {
    type Data = bytes::Bytes;
    type Error = fusebox_resilience::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let frame = std::task::ready!(std::pin::Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.left -= frame.data_ref().map_or(0, |data| data.len());
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left as u64)
    }
}

/// Requests that are made at once, as they are answered, each answer with how often it came.
async fn at_once(clients: &Clients, count: usize) -> Vec<(String, usize)> {
    let mut said = join_all((0..count).map(|_| clients.get("/", &[]))).await;
    said.sort();
    let chunks = said.chunk_by(|one, other| one == other);
    chunks.map(|same| (same[0].clone(), same.len())).collect()
}

fn is_idle(cache: &dyn Policy) -> bool {
    support::shown(cache, "fills") == 0
}

#[tokio::test(start_paused = true)]
async fn many_at_once_make_one_request() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd", "ef"]))));
            let cache = cache("");
            let clients = Clients::of(origin, [cache.clone() as _]);
            let said = at_once(&clients, 1_000).await;
            assert_eq!(
                said,
                [
                    ("200 abcdef [fwd=uri-miss; collapsed, age 0]".to_owned(), 999),
                    ("200 abcdef [fwd=uri-miss; stored]".to_owned(), 1),
                ]
            );
            assert_eq!((clients.origin.count(), clients.now()), (1, 40));
            assert!(is_idle(&*cache));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_come_in_the_middle_get_it_from_the_beginning() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd"]))));
            let clients = Clients::of(origin, [cache("") as _]);
            let late = async {
                sleep(ms(25)).await;
                clients.get("/", &[]).await
            };
            let (first, late) = tokio::join!(clients.get("/", &[]), late);
            assert_eq!(first, "200 abcd [fwd=uri-miss; stored]");
            assert_eq!(late, "200 abcd [fwd=uri-miss; collapsed, age 0]");
            assert_eq!((clients.origin.count(), clients.now()), (1, 30));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_is_waited_for_to_its_end() {
    LocalSet::new()
        .run_until(async {
            let pieces = [Piece::Data("ab"), Piece::Wait(50), Piece::Data("cd")];
            let origin =
                Origin::new(move |_, _| Ok(answer_with(200, FRESH, response_body(pieces))));
            let clients = Clients::of(origin, [cache("") as _]);
            let said = at_once(&clients, 10).await;
            assert_eq!(said[0].1, 9, "{said:?}");
            assert_eq!((clients.origin.count(), clients.now()), (1, 60));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn when_that_outgrows_an_entry_all_ask_by_themselves() {
    LocalSet::new()
        .run_until(async {
            let long: &'static str = "x".repeat(3_000).leak();
            let pieces =
                [Piece::Data(long), Piece::Wait(20), Piece::Data(long), Piece::Data("end")];
            let origin =
                Origin::new(move |_, _| Ok(answer_with(200, FRESH, response_body(pieces))));
            let cache = cache("max_entry = '4KiB'");
            let clients = Clients::of(origin, [cache.clone() as _]);
            let said = at_once(&clients, 5).await;
            let whole = format!("200 {long}{long}end [fwd=uri-miss; stored]");
            assert_eq!(said, [(whole, 5)]);
            assert_eq!(clients.origin.count(), 5);
            assert!(is_idle(&*cache));
            assert_eq!(support::shown(&*cache, "bytes"), 0, "no room is left taken");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_so_that_nobody_storms_the_upstream() {
    let refused = Origin::new(|_, _| Err(ErrorKind::ConnectionRefused.into()));
    let outer = breaker("failure_threshold = 5");
    let clients = Clients::of(refused, [outer.clone() as _, cache("") as _]);
    assert_eq!(at_once(&clients, 100).await, [("connect".to_owned(), 100)]);
    assert_eq!(clients.origin.count(), 1);
    assert_eq!(outer.status().state, CircuitState::Closed, "it was one failure, not a hundred");

    let down = Origin::new(|_, _| Ok(answer(503, &["retry-after: 7"], "down")));
    let outer = breaker("failure_threshold = 5");
    let clients = Clients::of(down, [outer.clone() as _, cache("") as _]);
    let said = at_once(&clients, 100).await;
    assert_eq!(
        said,
        [
            ("503 down [fwd=uri-miss; collapsed]".to_owned(), 99),
            ("503 down [fwd=uri-miss]".to_owned(), 1),
        ]
    );
    assert_eq!(clients.origin.count(), 1);
    assert_eq!(outer.status().state, CircuitState::Closed);
    assert_eq!(clients.get("/", &[]).await, "503 down [fwd=uri-miss]", "it is not kept");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_others_is_asked_for_by_all_at_once() {
    let origin = Origin::new(|asked, _| {
        Ok(answer(200, &["cache-control: private"], &asked.number.to_string()))
    });
    let clients = Clients::of(origin, [cache("") as _]);
    let said = at_once(&clients, 50).await;
    assert_eq!((said.len(), clients.origin.count()), (50, 50), "each has an answer of its own");
    assert_eq!(clients.now(), 20);
    at_once(&clients, 50).await;
    assert_eq!(clients.now(), 30, "nobody waits for another one within 10 s");
}

#[tokio::test(start_paused = true)]
async fn what_has_to_be_validated_each_time_is_not_for_those_who_wait() {
    let origin = Origin::new(|asked, _| {
        let fields = ["cache-control: no-cache", "etag: \"a\""];
        Ok(answer(200, &fields, &asked.number.to_string()))
    });
    let clients = Clients::of(origin, [cache("") as _]);
    at_once(&clients, 20).await;
    assert_eq!((clients.origin.count(), clients.now()), (20, 20));
    at_once(&clients, 20).await;
    assert_eq!((clients.origin.count(), clients.now()), (40, 30));
}

#[tokio::test(start_paused = true)]
async fn each_variant_is_filled_once() {
    let origin = Origin::new(|asked, _| {
        let fields = ["cache-control: max-age=60", "vary: accept"];
        Ok(answer(200, &fields, &asked.number.to_string()))
    });
    let clients = Clients::of(origin, [cache("") as _]);
    let fields = ["accept: a", "accept: b", "accept: c"];
    let requests = (0..300).map(|number| {
        let field = fields[number % 3];
        let clients = &clients;
        async move { (field, clients.get("/", &[field]).await) }
    });
    let mut said = join_all(requests).await;
    assert_eq!(clients.origin.count(), 3);
    said.iter_mut().for_each(|(_, said)| said.truncate("200 1".len()));
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 3, "one answer for each: {said:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_have_waited_for_too_long_ask_by_themselves() {
    let origin = Origin::new(|asked, _| Ok(answer(200, FRESH, &asked.number.to_string())));
    origin.takes(100);
    let clients = Clients::of(origin, [cache("collapse_wait = '30ms'") as _]);
    let said = at_once(&clients, 3).await;
    assert_eq!((said.len(), clients.now(), clients.origin.count()), (3, 130, 3));
    assert!(clients.recorder.kinds().contains(&CacheEvent::WaitedTooLong.into()));
}

#[tokio::test(start_paused = true)]
async fn a_fill_goes_on_when_its_client_leaves_after_the_head() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd"]))));
            let cache = cache("");
            let clients = Clients::of(origin, [cache.clone() as _]);
            drop(clients.outcome(get("/", &[])).await);
            assert!(!is_idle(&*cache));
            assert_eq!(clients.get("/", &[]).await, "200 abcd [fwd=uri-miss; collapsed, age 0]");
            assert_eq!(clients.get("/", &[]).await, "200 abcd [hit; ttl=60, age 0]");
            assert_eq!(clients.origin.count(), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn before_the_head_another_one_takes_its_place() {
    let origin = Origin::new(|asked, _| Ok(answer(200, FRESH, &asked.number.to_string())));
    let clients = Clients::of(origin, [cache("") as _]);
    let leaves = timeout(ms(5), clients.get("/", &[])).map(|ended| assert!(ended.is_err()));
    let (_, said) = tokio::join!(leaves, at_once(&clients, 10));
    assert_eq!(said[0], ("200 2 [fwd=uri-miss; collapsed, age 0]".to_owned(), 9));
    assert_eq!((clients.origin.count(), clients.now()), (2, 15));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_does_not_hold_up_a_fill() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd", "ef"]))));
            let clients = Clients::of(origin, [cache("") as _]);
            // Neither the first nor the second reads anything.
            let (_first, one) = clients.outcome(get("/", &[])).await;
            let (_second, other) = clients.outcome(get("/", &[])).await;
            sleep(ms(31)).await;
            assert_eq!(clients.get("/", &[]).await, "200 abcdef [hit; ttl=60, age 0]");
            assert_eq!(shown(one).await, "200 abcdef [fwd=uri-miss; stored]");
            assert_eq!(shown(other).await, "200 abcdef [fwd=uri-miss; collapsed, age 0]");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_does_so_for_all_and_is_not_kept() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|asked, _| {
                let pieces = vec![
                    Piece::Data("half"),
                    Piece::Wait(10),
                    Piece::Break(ErrorKind::ConnectionTerminated),
                ];
                let broken = Sized { body: response_body(pieces), left: 8 };
                Ok(match asked.number {
                    1 => answer_with(200, FRESH, ResponseBody::stream(Box::pin(broken))),
                    _ => answer(200, FRESH, "whole"),
                })
            });
            let cache = cache("");
            let clients = Clients::of(origin, [cache.clone() as _]);
            let said = at_once(&clients, 10).await;
            assert!(said.iter().all(|(said, _)| said.contains("…connection-lost")), "{said:?}");
            assert_eq!(clients.origin.count(), 1);
            assert!(is_idle(&*cache));
            assert_eq!(clients.get("/", &[]).await, "200 whole [fwd=uri-miss; stored]");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_place_behind_calls_it_is_not_kept_but_sent() {
    LocalSet::new()
        .run_until(async {
            let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd"]))));
            let cache = cache("");
            let clients = Clients::with_places(origin, [cache.clone() as _], 0);
            let said = at_once(&clients, 3).await;
            assert_eq!(said.iter().map(|(_, count)| count).sum::<usize>(), 3);
            assert!(said.iter().all(|(said, _)| said.starts_with("200 abcd")), "{said:?}");
            assert_eq!(clients.origin.count(), 3);
            assert!(is_idle(&*cache));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_or_purged_meanwhile_is_not_kept() {
    LocalSet::new()
        .run_until(async {
            for change in ["post", "purge"] {
                let origin = Origin::new(|asked, call| {
                    if call.head().method == http::Method::POST {
                        return Ok(answer(200, &[], ""));
                    }
                    let body = slow(if asked.number == 1 { &["old"] } else { &["new"] });
                    Ok(answer_with(200, FRESH, body))
                });
                let cache = cache("");
                let clients = Clients::of(origin, [cache.clone() as _]);
                let changes = async {
                    sleep(ms(5)).await;
                    match change {
                        "post" => drop(clients.send(http::Request::post("/")).await),
                        _ => {
                            let observers = clients.recorder.observers();
                            assert_eq!(cache.command("purge", &[], &observers), Ok("purged"));
                        }
                    }
                    // What is under way was asked for before, so it is not for those who ask now.
                    clients.get("/", &[]).await
                };
                let said = tokio::join!(clients.get("/", &[]), changes);
                let expected = ["200 old [fwd=uri-miss; stored]", "200 new [fwd=uri-miss; stored]"];
                assert_eq!([&*said.0, &*said.1], expected, "{change}");
                assert_eq!(clients.get("/", &[]).await, "200 new [hit; ttl=60, age 0]");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_nothing_stays_and_others_are_served() {
    LocalSet::new()
        .run_until(async {
            let mut most = 0;
            loop {
                let origin = Origin::new(|_, _| Ok(answer_with(200, FRESH, slow(&["ab", "cd"]))));
                let cache = cache("");
                let clients = Clients::of(origin, [cache.clone() as _]);
                let polls = Rc::new(Cell::new(0));
                let mut first = Box::pin(clients.get("/", &[]));
                let counted = poll_fn(|cx| {
                    if polls.replace(polls.get() + 1) == most {
                        return Poll::Ready(None);
                    }
                    first.as_mut().poll(cx).map(Some)
                });
                let is_over = counted.await.is_some();
                let leaves = async { drop(first) };
                let (said, ()) = tokio::join!(at_once(&clients, 2), leaves);
                assert!(said.iter().all(|(said, _)| said.starts_with("200 abcd")), "{said:?}");
                assert!(is_idle(&*cache) && clients.origin.under_way() == 0, "after {most} polls");
                let bytes = support::shown(&*cache, "bytes");
                assert!((1..=2_000).contains(&bytes), "{bytes}");
                if is_over {
                    break;
                }
                most += 1;
            }
            assert!(most > 3, "{most}");
        })
        .await;
}

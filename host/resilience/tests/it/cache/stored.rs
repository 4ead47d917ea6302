//! What is kept, for how long and for whom.

use fusebox_resilience::{CacheEvent, CacheResult, EventKind, Policy};

use super::cache;
use super::origin::{Clients, Origin, answer, get};
use crate::support::{rate_limiter, shown};

/// Answers with its number, under these fields.
fn numbered(fields: &'static [&'static str]) -> Origin {
    Origin::new(move |asked, _| Ok(answer(200, fields, &asked.number.to_string())))
}

#[tokio::test(start_paused = true)]
async fn what_is_fresh_is_not_asked_for_again() {
    let clients = Clients::of(numbered(&["cache-control: max-age=60"]), [cache("") as _]);
    assert_eq!(clients.get("/a", &[]).await, "200 1 [fwd=uri-miss; stored]");
    clients.until(30_010).await;
    assert_eq!(clients.get("/a", &[]).await, "200 1 [hit; ttl=30, age 30]");
    assert_eq!(clients.get("/b", &[]).await, "200 2 [fwd=uri-miss; stored]");
    clients.until(59_999).await;
    assert_eq!(clients.get("/a", &[]).await, "200 1 [hit; ttl=1, age 59]");
    clients.until(60_010).await;
    assert_eq!(clients.get("/a", &[]).await, "200 3 [fwd=stale; stored]");
    assert_eq!(clients.origin.said(), ["GET /a", "GET /b", "GET /a"]);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_is_not_kept_but_for_the_default() {
    let clients = Clients::of(numbered(&[]), [cache("") as _]);
    assert_eq!(clients.get("/", &[]).await, "200 1 [fwd=uri-miss]");
    assert_eq!(clients.get("/", &[]).await, "200 2 [fwd=uri-miss]");
    let clients = Clients::of(numbered(&[]), [cache("default_ttl = '5s'") as _]);
    clients.get("/", &[]).await;
    assert_eq!(clients.get("/", &[]).await, "200 1 [hit; ttl=5, age 0]");
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_from_get_but_not_the_other_way() {
    let clients = Clients::of(numbered(&["cache-control: max-age=60"]), [cache("") as _]);
    let head = || http::Request::head("/");
    assert_eq!(clients.send(head()).await, "200 1 [fwd=uri-miss]");
    assert_eq!(clients.send(head()).await, "200 2 [fwd=uri-miss]");
    assert_eq!(clients.get("/", &[]).await, "200 3 [fwd=uri-miss; stored]");
    assert_eq!(clients.send(head()).await, "200 3 [hit; ttl=60, age 0]");
    assert_eq!(clients.origin.said(), ["HEAD /", "HEAD /", "GET /"]);
}

/// What a limiter tells a client is about its call, not about the response.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_limit_is_told_to_those_who_spend_of_it() {
    const FIELDS: &[&str] = &["cache-control: max-age=2", "etag: \"a\"", "ratelimit: \"far\";r=7"];
    let origin = Origin::new(|asked, _| {
        let is_known = asked.said.contains("if-none-match");
        Ok(answer(if is_known { 304 } else { 200 }, FIELDS, "1"))
    });
    let limiter = rate_limiter("limit = 9\nper = '10h'\nheaders = true");
    let clients = Clients::of(origin, [cache("") as _, limiter as _]);
    let told = async |fields: &[&str]| {
        let (_call, outcome) = clients.outcome(get("/", fields)).await;
        let response = outcome.expect("a response");
        let headers = response.headers.to_map();
        let of = |name| headers.get_all(name).iter();
        let left = of("ratelimit").map(|value| {
            value.to_str().expect("text").split(';').nth(1).expect("a number").to_owned()
        });
        let left = left.collect::<Vec<_>>().join(" ");
        format!("{} {left} {}", response.status.as_u16(), of("ratelimit-policy").count())
    };
    assert_eq!(told(&[]).await, "200 r=7 r=8 1");
    assert_eq!(told(&[]).await, "200  0", "a hit spends nothing");
    assert_eq!(told(&["if-none-match: \"a\""]).await, "304  0");
    clients.until(3_000).await;
    assert_eq!(told(&[]).await, "200 r=7 r=7 1", "validated");
    assert_eq!(told(&[]).await, "200  0");
    clients.until(6_000).await;
    assert_eq!(told(&["cache-control: no-cache", "if-none-match: \"a\""]).await, "304 r=7 r=6 1");
    let (asked, others) =
        tokio::join!(clients.outcome(get("/new", &[])), clients.outcome(get("/new", &[])));
    let left = [asked, others].map(|(_, outcome)| {
        outcome.expect("a response").headers.to_map().get_all("ratelimit").iter().count()
    });
    assert_eq!(left, [2, 0], "who waited for another's answer spends nothing either");
}

#[tokio::test(start_paused = true)]
async fn each_variant_is_kept_by_itself() {
    let origin = Origin::new(|asked, call| {
        let language = call.header("accept-language").map_or("-", |it| it.to_str().unwrap());
        let fields = ["cache-control: max-age=60", "vary: Accept-Language"];
        Ok(answer(200, &fields, &format!("{language}{}", asked.number)))
    });
    let clients = Clients::of(origin, [cache("") as _]);
    assert_eq!(clients.get("/", &["accept-language: de"]).await, "200 de1 [fwd=uri-miss; stored]");
    assert_eq!(clients.get("/", &["accept-language: fr"]).await, "200 fr2 [fwd=vary-miss; stored]");
    assert_eq!(clients.get("/", &[]).await, "200 -3 [fwd=vary-miss; stored]");
    for (field, expected) in [("de", "de1"), ("fr", "fr2")] {
        let field = format!("accept-language: {field}");
        let said = clients.get("/", &[&field]).await;
        assert_eq!(said, format!("200 {expected} [hit; ttl=60, age 0]"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_tells_apart_what_looks_the_same() {
    let fields = &["cache-control: max-age=60", "vary: accept"];
    let key = "key = [{ header = 'x-tenant' }, { query = 'q' }]";
    let clients = Clients::of(numbered(fields), [cache(key) as _]);
    let odd = "/?q=1%0A1:1";
    for (number, (path, field)) in
        [("/?q=1", "x-tenant: a"), ("/?q=1", "x-tenant: b"), ("/?q=1", "x: 1"), (odd, "x: 1")]
            .into_iter()
            .enumerate()
    {
        let number = number + 1;
        let said = clients.get(path, &[field]).await;
        assert_eq!(said, format!("200 {number} [fwd=uri-miss; stored]"));
        let said = clients.get(path, &[field]).await;
        assert_eq!(said, format!("200 {number} [hit; ttl=60, age 0]"));
    }
    // A change concerns the one who has made it.
    clients.send(http::Request::post("/?q=1").header("x-tenant", "a")).await;
    assert!(clients.get("/?q=1", &["x-tenant: a"]).await.ends_with("[fwd=uri-miss; stored]"));
    assert!(clients.get("/?q=1", &["x-tenant: b"]).await.contains("hit"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_it_gets_no_body() {
    let fields = &["cache-control: max-age=60", "etag: \"a\"", "content-type: text/plain"];
    let clients = Clients::of(numbered(fields), [cache("") as _]);
    let known = ["if-none-match: \"a\""];
    assert_eq!(clients.get("/", &known).await, "304  [fwd=uri-miss; stored]");
    assert_eq!(clients.get("/", &known).await, "304  [hit; ttl=60, age 0]");
    assert_eq!(clients.get("/", &["if-none-match: \"b\""]).await, "200 1 [hit; ttl=60, age 0]");
    assert_eq!(clients.origin.said(), ["GET /"], "the upstream was asked for all of it");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_the_clients_own_affair_from_the_second_request_on() {
    let clients = Clients::of(numbered(&["cache-control: private"]), [cache("") as _]);
    let known = ["if-none-match: \"a\""];
    clients.get("/", &known).await;
    clients.get("/", &known).await;
    assert_eq!(clients.origin.said(), ["GET /", "GET / if-none-match: \"a\""]);
    clients.until(11_000).await;
    clients.get("/", &known).await;
    assert_eq!(clients.origin.said()[2], "GET /", "it is forgotten after 10 s");
    // Unless it is asked for again and again.
    for second in [15, 19, 23, 27, 31] {
        clients.until(second * 1_000).await;
        clients.get("/", &known).await;
    }
    let said = clients.origin.said();
    assert_eq!(said[3..], ["GET / if-none-match: \"a\""; 5], "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn the_upstream_may_say_that_it_is_still_valid() {
    let origin = Origin::new(|asked, _| {
        let fields = ["cache-control: max-age=60", "etag: \"a\"", "x-number: 1"];
        Ok(match asked.number {
            1 => answer(200, &fields, "kept"),
            _ => answer(304, &["cache-control: max-age=5", "etag: \"a\"", "age: 2"], ""),
        })
    });
    let clients = Clients::of(origin, [cache("") as _]);
    clients.get("/", &[]).await;
    clients.until(61_000).await;
    let said = clients.get("/", &[]).await;
    assert_eq!(said, "200 kept [fwd=stale; fwd-status=304; stored, age 2]");
    assert_eq!(clients.get("/", &[]).await, "200 kept [hit; ttl=3, age 2]");
    assert_eq!(clients.origin.said(), ["GET /", "GET / if-none-match: \"a\""]);
}

#[tokio::test(start_paused = true)]
async fn a_304_about_another_response_is_not_believed() {
    let origin = Origin::new(|asked, _| {
        let fields = ["cache-control: max-age=60", "etag: \"a\""];
        Ok(match asked.number {
            1 => answer(200, &fields, "old"),
            2 => answer(304, &["etag: \"b\""], ""),
            _ => answer(200, &["cache-control: max-age=60", "etag: \"b\""], "new"),
        })
    });
    let clients = Clients::of(origin, [cache("") as _]);
    clients.get("/", &[]).await;
    clients.until(61_000).await;
    assert_eq!(clients.get("/", &[]).await, "200 new [fwd=stale; stored]");
    assert_eq!(clients.origin.said()[1..], ["GET / if-none-match: \"a\"", "GET /"]);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_longer_for_all_is_forgotten() {
    let origin = Origin::new(|asked, _| {
        let fields = ["cache-control: max-age=1, stale-if-error=600", "etag: \"a\""];
        Ok(match asked.number {
            1 => answer(200, &fields, "kept"),
            2 => answer(304, &["cache-control: private", "etag: \"a\""], ""),
            _ => answer(503, &[], "down"),
        })
    });
    let clients = Clients::of(origin, [cache("") as _]);
    clients.get("/", &[]).await;
    clients.until(2_000).await;
    assert_eq!(clients.get("/", &[]).await, "200 kept [fwd=stale; fwd-status=304, age 0]");
    assert_eq!(clients.get("/", &[]).await, "503 down [fwd=uri-miss]");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_is_followed() {
    let fields = &["cache-control: max-age=60", "etag: \"a\""];
    let clients = Clients::of(numbered(fields), [cache("") as _]);
    let only = ["cache-control: only-if-cached"];
    assert_eq!(clients.get("/", &only).await, "504  [fwd=uri-miss; detail=only-if-cached]");
    assert_eq!(clients.get("/", &["cache-control: no-store"]).await, "200 1 [fwd=uri-miss]");
    clients.get("/", &[]).await;
    assert_eq!(clients.get("/", &only).await, "200 2 [hit; ttl=60, age 0]");
    let no_cache = ["cache-control: no-cache"];
    assert_eq!(clients.get("/", &no_cache).await, "200 3 [fwd=request; stored]");
    assert_eq!(clients.origin.said()[2], "GET / if-none-match: \"a\"");
    clients.until(90_000).await;
    let max_stale = ["cache-control: max-stale=100"];
    let said = clients.get("/", &max_stale).await;
    assert_eq!(said, "200 3 [hit; ttl=-29; detail=max-stale, age 89]");
}

#[tokio::test(start_paused = true)]
async fn parts_and_other_preconditions_go_to_the_upstream() {
    let clients = Clients::of(numbered(&["cache-control: max-age=60"]), [cache("") as _]);
    clients.get("/", &[]).await;
    for field in ["range: bytes=0-1", "if-match: \"a\"", "if-range: \"a\""] {
        let said = clients.get("/", &[field]).await;
        assert!(said.ends_with("[fwd=bypass]"), "{field}: {said}");
    }
    assert_eq!(clients.origin.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_succeeds_makes_it_forget() {
    let origin = Origin::new(|asked, call| {
        let fields: &[&str] = match call.head().uri.path() {
            "/elsewhere" => &["content-location: /a", "location: http://other.example/b"],
            _ => &["cache-control: max-age=60", "vary: accept"],
        };
        let status = if call.head().uri.path() == "/refused" { 403 } else { 200 };
        Ok(answer(status, fields, &asked.number.to_string()))
    });
    let clients = Clients::of(origin, [cache("") as _]);
    let post = |path: &str| http::Request::post(path.to_owned());
    for path in ["/a", "/b"] {
        clients.get(path, &[]).await;
    }
    assert_eq!(clients.send(post("/a")).await, "200 3 [fwd=method]");
    assert_eq!(clients.get("/a", &[]).await, "200 4 [fwd=uri-miss; stored]");
    clients.send(post("/elsewhere")).await;
    assert_eq!(clients.get("/a", &[]).await, "200 6 [fwd=uri-miss; stored]");
    assert_eq!(clients.get("/b", &[]).await, "200 2 [hit; ttl=60, age 0]");
    clients.send(http::Request::options("/b")).await;
    assert_eq!(clients.get("/b", &[]).await, "200 2 [hit; ttl=60, age 0]");
}

#[tokio::test(start_paused = true)]
async fn a_purge_forgets_all() {
    let cache = cache("");
    let clients = Clients::of(numbered(&["cache-control: max-age=60"]), [cache.clone() as _]);
    clients.get("/a", &[]).await;
    clients.get("/b", &[]).await;
    assert_eq!(shown(&*cache, "entries"), 2);
    let observers = clients.recorder.observers();
    assert_eq!(cache.command("purge", &[], &observers), Ok("purged"));
    assert!(cache.command("purge", &["a".to_owned()], &observers).is_err());
    assert!(cache.command("open", &[], &observers).is_err());
    assert_eq!(["entries", "bytes", "fills"].map(|name| shown(&*cache, name)), [0; 3]);
    assert!(clients.recorder.kinds().contains(&CacheEvent::Purged { entries: 2 }.into()));
    assert_eq!(clients.get("/a", &[]).await, "200 3 [fwd=uri-miss; stored]");
}

#[tokio::test(start_paused = true)]
async fn what_it_holds_is_bounded_and_counted() {
    let fields = &["cache-control: max-age=3600", "x-filler: 0123456789abcdef"];
    let origin = Origin::new(move |_, _| Ok(answer(200, fields, &"x".repeat(1000))));
    origin.takes(0);
    let cache = cache("max_size = '256KiB'\nmax_entry = '16KiB'");
    let clients = Clients::of(origin, [cache.clone() as _]);
    let held = |name: &str| shown(&*cache, name);
    clients.get("/first", &[]).await;
    let one = held("bytes");
    assert!((1_300..2_500).contains(&one), "{one}");
    for number in 0..2_000 {
        clients.get(&format!("/{number}"), &[]).await;
    }
    let (entries, bytes) = (held("entries"), held("bytes"));
    assert!(bytes <= 256 << 10, "{bytes}");
    assert!(entries > 80 && entries * (one - 50) <= bytes, "{entries} entries of {bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_longer_response_is_not_kept_however_long_it_says_that_it_is() {
    let long = "x".repeat(1 << 20);
    let origin = Origin::new(move |_, _| Ok(answer(200, &["cache-control: max-age=60"], &long)));
    let clients = Clients::of(origin, [cache("") as _]);
    for _ in 0..2 {
        let said = clients.get("/", &[]).await;
        assert_eq!(said.len(), (1 << 20) + "200  [fwd=uri-miss]".len());
    }
    assert_eq!(clients.origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_use_is_told_once() {
    let clients = Clients::of(numbered(&["cache-control: max-age=60"]), [cache("") as _]);
    clients.get("/", &[]).await;
    clients.get("/", &[]).await;
    clients.send(http::Request::post("/")).await;
    let used: Vec<_> = clients.recorder.kinds().into_iter().collect();
    let result = |kind: &EventKind| match kind {
        EventKind::Cache(CacheEvent::Used { result, .. }) => Some(*result),
        _ => None,
    };
    let used: Vec<_> = used.iter().filter_map(result).collect();
    assert_eq!(used, [CacheResult::Miss, CacheResult::Hit, CacheResult::Bypass]);
}

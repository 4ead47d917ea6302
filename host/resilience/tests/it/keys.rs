//! Policies with a state for each key: who floods is limited, and the others are not.

use std::sync::Arc;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    AdaptiveLimiterConfig, AdaptiveThrottlerConfig, BulkheadConfig, CircuitBreakerConfig,
    CircuitBreakerEvent, CircuitState, ErrorKind, EventKind, KeysEvent, Observers, Outcome, Policy,
    PolicyConfig, RateLimiterConfig, RequestBody, Upstream,
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::support::{
    Answers, Ended, FakeKey, Piece, Rig, Surroundings, adaptive, breaker, breaker_among, bulkhead,
    cache_among, ms, problems, rate_limiter, response, response_body, shown,
};

const KEY: &str = "key = { header = \"x-tenant\" }";

async fn outcome<U: Upstream>(rig: &Rig<U>, tenant: &str) -> Outcome {
    let request = http::Request::get("http://service-b/").header("x-tenant", tenant);
    rig.outcome(&rig.call_of(request, RequestBody::empty())).await
}

async fn get<U: Upstream>(rig: &Rig<U>, tenant: &str) -> Ended {
    let outcome = outcome(rig, tenant).await;
    (rig.now(), outcome.map(|response| response.status.as_u16()).map_err(|error| error.kind()))
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_floods_is_limited_and_the_others_are_not() {
    let limiter = rate_limiter(&format!("limit = 2\nper = \"1s\"\n{KEY}"));
    let rig = Rig::new("", [limiter.clone()]);
    let flood = join_all((0..10).map(|_| get(&rig, "red"))).await;
    assert_eq!(flood.iter().filter(|(_, ended)| ended.is_ok()).count(), 2);
    for tenant in ["blue", "green", "blue", "green"] {
        assert_eq!(get(&rig, tenant).await.1, Ok(200), "{tenant}");
    }
    // Those that say nothing share one.
    let others = join_all((0..3).map(|_| rig.get())).await;
    assert_eq!(others.iter().filter(|(_, ended)| ended.is_ok()).count(), 2);
    assert_eq!(shown(&*limiter, "keys"), 3);
    assert!(limiter.show().iter().all(|(field, _)| *field != "tokens"), "of whom?");
    let keys = limiter.keys().expect("there are some");
    let busiest: Vec<_> = keys.busiest.iter().map(|key| (&*key.key, key.calls)).collect();
    assert_eq!(busiest, [("red", 10), ("blue", 2), ("green", 2)]);
}

#[tokio::test(start_paused = true)]
async fn each_tenant_has_places_of_its_own_and_a_line() {
    let text = format!("max_concurrency = 1\nmax_wait = \"150ms\"\n{KEY}");
    let bulkhead = bulkhead(&text);
    let rig = Rig::new("200:delay=99*9", [bulkhead.clone()]);
    let ended = join_all(["red", "red", "red", "blue"].map(|tenant| get(&rig, tenant))).await;
    assert_eq!(
        ended,
        [(100, Ok(200)), (200, Ok(200)), (150, Err(ErrorKind::BulkheadFull)), (100, Ok(200))]
    );
    let left = ["in_use", "waiting", "keys"].map(|name| shown(&*bulkhead, name));
    assert_eq!(left, [0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn each_tenant_has_a_limit_of_its_own_that_it_keeps_while_it_is_low() {
    let text = format!(
        "initial_limit = 2\nmax_limit = 2\nmin_samples = 1\nmax_keys = 2\n\
         window = {{ min = \"1ms\" }}\n{KEY}"
    );
    let limiter = adaptive(&text);
    let rig = Rig::new("503*2,200:delay=99*9", [limiter.clone() as Arc<dyn Policy>]);
    let statuses =
        |ended: Vec<Ended>| ended.into_iter().map(|(_, ended)| ended).collect::<Vec<_>>();
    // Red is told twice that there is too much to do, so it may do less; blue may as before.
    for _ in 0..2 {
        assert_eq!(get(&rig, "red").await.1, Ok(503));
        rig.until(rig.now() + 10).await;
    }
    let ended = join_all(["red", "red", "blue", "blue", "blue"].map(|tenant| get(&rig, tenant)));
    let overloaded = Err(ErrorKind::Overloaded);
    assert_eq!(statuses(ended.await), [Ok(200), overloaded, Ok(200), Ok(200), overloaded]);
    assert_eq!(["in_use", "keys"].map(|name| shown(&*limiter, name)), [0, 2]);
    // Green goes for blue, which is as a new one would be, and not for red.
    assert_eq!(get(&rig, "green").await.1, Ok(200));
    let keys = limiter.keys().expect("there are some");
    let limits: Vec<_> =
        (keys.busiest.iter()).map(|key| (key.key.to_string(), key.shown[0].1)).collect();
    let of = |name: &str, limit| (name.to_owned(), fusebox_resilience::Shown::Count(limit));
    assert_eq!(limits, [of("red", 1), of("green", 2)]);
    assert_eq!((limiter.limit(), keys.overflow), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_missed_for_as_long_as_its_body_comes() {
    let bulkhead = bulkhead(&format!("max_concurrency = 1\nmax_keys = 1\n{KEY}"));
    let rig = Rig::new("200:bodydelay=50,200", [bulkhead.clone()]);
    let red = outcome(&rig, "red").await.expect("a response");
    // There is no place for blue, so it shares one with other newcomers, and red keeps its own.
    assert_eq!(get(&rig, "blue").await, (2, Ok(200)));
    assert_eq!(get(&rig, "red").await, (2, Err(ErrorKind::BulkheadFull)));
    let overflowed = KeysEvent::Overflowed { count: Some(1) };
    assert_eq!(rig.events()[0], (1, EventKind::Keys(overflowed)));
    read(red.body).await.expect("a body");
    assert_eq!(get(&rig, "blue").await.1, Ok(200), "red has gone for it");
    let keys = bulkhead.keys().expect("there are some");
    assert_eq!((keys.count, &*keys.busiest[0].key), (1, "blue"));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_for_one_tenant_and_is_not_forgotten() {
    let text = format!("failure_threshold = 1\ndelay = \"60s\"\nmax_keys = 2\n{KEY}");
    let breaker = breaker(&text);
    let rig = Rig::new("503,200,503,200", [breaker.clone()]);
    for (tenant, ended) in [
        ("red", Ok(503)),
        ("blue", Ok(200)),
        ("red", Err(ErrorKind::CircuitOpen)),
        // Blue goes for it: it is closed, and red is not.
        ("green", Ok(503)),
        ("green", Err(ErrorKind::CircuitOpen)),
        // Both are open: newcomers share one.
        ("blue", Ok(200)),
        ("red", Err(ErrorKind::CircuitOpen)),
        ("green", Err(ErrorKind::CircuitOpen)),
    ] {
        assert_eq!(get(&rig, tenant).await.1, ended, "{tenant}");
    }
    let counts = ["keys", "open_keys", "half_open_keys"].map(|name| shown(&*breaker, name));
    assert_eq!(counts, [2, 2, 0]);
    let opened: Vec<_> = (rig.events().into_iter())
        .filter_map(|(_, kind)| match kind {
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { key, .. }) => Some(key),
            _ => None,
        })
        .collect();
    assert_eq!(opened, ["red", "green"].map(|key| Some(key.into())), "it is told whose");
    assert!(breaker.keys().expect("there are some").overflow.is_some());
    // After its delay each is tried by itself.
    rig.until(70_000).await;
    assert_eq!(get(&rig, "red").await.1, Ok(200));
    assert_eq!(shown(&*breaker, "open_keys"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_is_of_the_tenant_whose_body_broke_off() {
    let breaker = breaker(&format!("failure_threshold = 1\n{KEY}"));
    let broken = || {
        let pieces = [Piece::Data("a"), Piece::Break(ErrorKind::ConnectionTerminated)];
        Ok(response(200, &[], response_body(pieces)))
    };
    let upstream = Answers(move |_| broken());
    let rig = Rig::around(upstream, [breaker.clone() as Arc<dyn Policy>]);
    let response = outcome(&rig, "red").await.expect("a head");
    read(response.body).await.expect_err("it breaks off");
    assert_eq!(get(&rig, "red").await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(get(&rig, "blue").await.1, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn an_operator_moves_the_circuit_of_one_key() {
    let breaker = breaker(&format!("failure_threshold = 1\n{KEY}"));
    let rig = Rig::new("", [breaker.clone()]);
    let command = |command: &str, key: &[&str]| {
        let key: Vec<_> = key.iter().map(|value| (*value).to_owned()).collect();
        breaker.command(command, &key, &Observers::default())
    };
    assert_eq!(command("open", &["red"]), Ok("open"));
    assert_eq!(get(&rig, "red").await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(get(&rig, "blue").await.1, Ok(200));
    assert_eq!(command("half-open", &["red"]), Ok("half-open"));
    assert_eq!(shown(&*breaker, "half_open_keys"), 1);
    assert_eq!(command("close", &["red"]), Ok("closed"));
    assert!(command("open", &[]).unwrap_err().contains("`?key=VALUE`"));
    assert!(command("shut", &["red"]).unwrap_err().contains("no command `shut`"));
    let only = crate::support::breaker("");
    let key = ["red".to_owned()];
    let refused = only.command("open", &key, &Observers::default());
    assert_eq!(refused, Err("it has no `key`: one state for all calls".into()));
    assert_eq!(only.status().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cut_off_leaves_its_key_at_rest() {
    let bulkhead =
        bulkhead(&format!("max_concurrency = 1\nmax_wait = \"1s\"\nmax_keys = 1\n{KEY}"));
    let breaker = breaker(&format!("failure_threshold = 9\nmax_keys = 1\n{KEY}"));
    let rig = Rig::new("hang*9", [breaker.clone() as Arc<dyn Policy>, bulkhead.clone()]);
    let two = join_all([get(&rig, "red"), get(&rig, "red")]);
    assert!(timeout(ms(5), two).await.is_err());
    assert_eq!(["in_use", "waiting"].map(|name| shown(&*bulkhead, name)), [0, 0]);
    assert!(timeout(ms(5), get(&rig, "blue")).await.is_err());
    for policy in [&*breaker as &dyn Policy, &*bulkhead] {
        let keys = policy.keys().expect("there are some");
        assert_eq!((&*keys.busiest[0].key, keys.overflow), ("blue", None), "red could go");
    }
}

#[tokio::test(start_paused = true)]
async fn a_component_says_whose_call_it_is_once_for_each_call_and_policy() {
    let keyer = FakeKey::new(|seen| {
        let tenant = seen.call.header("x-tenant")?.to_str().ok()?;
        Some(tenant.split('-').next()?.to_owned())
    });
    let parts = Surroundings::default().keyer("tenant", &keyer);
    let key = "key = { component = \"tenant\" }";
    let breaker = breaker_among(&format!("failure_threshold = 1\n{key}"), &parts);
    let cache = cache_among(&format!("default_ttl = \"1m\"\n{key}"), &parts);
    let rig = Rig::new("503,200", [breaker.clone() as Arc<dyn Policy>, cache]);
    assert_eq!(get(&rig, "red-1").await.1, Ok(503));
    assert_eq!(keyer.asked(), 2, "once by each, its event included");
    let key = |kind| match kind {
        EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { key, .. }) => key,
        _ => None,
    };
    let opened: Vec<_> = rig.recorder.kinds().into_iter().filter_map(key).collect();
    assert_eq!(opened, ["red".into()]);
    assert_eq!(get(&rig, "red-2").await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(get(&rig, "blue-1").await.1, Ok(200));
    assert_eq!(get(&rig, "blue-2").await.1, Ok(200), "of the same, from what is kept");
    assert_eq!(rig.attempts().len(), 2);
    // An empty answer is none.
    assert_eq!(get(&rig, "-1").await.1, Ok(200));
    assert_eq!(shown(&*breaker, "keys"), 2);
}

#[test]
fn keys_that_make_no_sense_are_refused_by_each_kind() {
    fn build<C: PolicyConfig>(text: &str) -> Vec<String> {
        problems(text, |config: C| config.build("p".into(), &Surroundings::default()))
    }
    type Build = fn(&str) -> Vec<String>;
    let kinds: [(Build, &str); 5] = [
        (build::<BulkheadConfig>, "max_concurrency = 1"),
        (build::<RateLimiterConfig>, "limit = 1\nper = \"1s\""),
        (build::<CircuitBreakerConfig>, ""),
        (build::<AdaptiveLimiterConfig>, ""),
        (build::<AdaptiveThrottlerConfig>, ""),
    ];
    for (build, required) in kinds {
        let of = |text: &str| build(&format!("{required}\n{text}"));
        assert_eq!(of(&format!("{KEY}\nmax_keys = 1\nidle = \"1ms\"")), [""; 0]);
        assert_eq!(
            of("max_keys = 1\nidle = \"1s\""),
            ["max_keys: needs a `key`", "idle: needs a `key`"]
        );
        assert_eq!(
            of(&format!("{KEY}\nmax_keys = 0\nidle = \"0s\"")),
            ["max_keys: must be from 1 to 1000000, is 0", "idle: must be at least 1ms, is 0s"]
        );
        assert_eq!(of("key = { client = false }"), ["key: `client` must be true"]);
        assert!(of("key = { tenant = \"a\" }")[0].contains("unknown field `tenant`"));
        assert_eq!(of("key = { component = \"a\" }"), ["key: no component `a`"]);
    }
}

//! Upstreams with several endpoints: who gets which share, and where retries and hedges go.

mod breakers;
mod tiers;

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use fusebox_dev::{ClosedDoor, Ends, Origin, OriginConnection, Ran, answer, eventually, get, ok};
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::{config, directory};
use crate::support::{Proxy, asked_during, fusebox, verdict};

const MS: Duration = Duration::from_millis(1);

/// One worker in front of these endpoints, with more of the upstream's table and of the route's.
fn before(endpoints: &[&dyn ToString], upstream: &str, route: &str) -> Proxy {
    let urls: Vec<_> = endpoints.iter().map(|it| format!("'{}'", it.to_string())).collect();
    let text = format!(
        "workers = 1\n[upstreams.b]\nendpoints = [{}]\n{upstream}\n\
         [[routes]]\nupstream = 'b'\n{route}\n",
        urls.join(", ")
    );
    Proxy::before(&"", &text)
}

/// Two retries at once.
const RETRIES: &str = "policies = ['again']\n[policies.again]\nkind = 'retry'\ndelay = '1ms'\n\
                       budget = 'none'\n";

/// One that answers after so long.
fn slow(time: Duration) -> Origin {
    Origin::start(move |connection| {
        while connection.request().is_some() {
            thread::park_timeout(time);
            if connection.wire.try_send(ok("slow")).is_err() {
                return;
            }
        }
    })
}

/// Asks so often, one after the other on one connection.
#[track_caller]
fn ask(proxy: &Proxy, times: usize) -> Vec<u16> {
    let mut wire = proxy.connect();
    (0..times).map(|at| wire.ask(get("/", &at.to_string())).status()).collect()
}

fn counts<const N: usize>(origins: [&Origin; N]) -> [usize; N] {
    origins.map(|origin| origin.seen().len())
}

#[test]
fn a_slow_endpoint_gets_few_requests() {
    let (slow, first, second) =
        (slow(200 * MS), Origin::answering([ok("")]), Origin::answering([ok("")]));
    let proxy = before(&[&slow, &first, &second], "", "");
    assert!(ask(&proxy, 300).iter().all(|status| *status == 200));
    let [slow, first, second] = counts([&slow, &first, &second]);
    assert!(slow >= 1, "it is tried");
    // On a busy machine the others are slow, too, now and then.
    assert!(slow <= 30, "{slow}");
    assert!(first > 50 && second > 50, "{first} {second}");
}

#[test]
fn round_robin_gives_shares_by_weight_also_to_the_slow() {
    let (slow, fast) = (slow(2 * MS), Origin::answering([ok("")]));
    let text = format!(
        "workers = 1\n[upstreams.b]\nbalance = 'round-robin'\n\
         endpoints = ['{slow}', {{ url = '{fast}', weight = 3 }}]\n[[routes]]\nupstream = 'b'\n"
    );
    ask(&Proxy::before(&"", &text), 40);
    assert_eq!(counts([&slow, &fast]), [10, 30]);
}

#[test]
fn a_key_stays_with_its_endpoint_until_that_fails() {
    let origins = [(); 3].map(|()| Origin::answering([ok("")]));
    let ill = Origin::answering([answer(503, "", "")]);
    let all: [&dyn ToString; 4] = [&origins[0], &origins[1], &ill, &origins[2]];
    let proxy = before(&all, "balance = { hash = { header = 'x-user' } }", RETRIES);
    let mut wire = proxy.connect();
    for _ in 0..3 {
        for user in 0..40 {
            let request = get("/", "1").replacen("\r\n", &format!("\r\nx-user: {user}\r\n"), 1);
            assert_eq!(wire.ask(request).status(), 200);
        }
    }
    let users = |origin: &Origin| -> BTreeSet<String> {
        let seen = origin.seen().into_iter();
        seen.map(|seen| seen.request.header("x-user").unwrap().to_owned()).collect()
    };
    let served = origins.each_ref().map(&users);
    assert_eq!(served.iter().map(BTreeSet::len).sum::<usize>(), 40, "each has one: {served:?}");
    // By chance one may have few, since ports are drawn.
    assert!(served.iter().all(|users| !users.is_empty()), "{served:?}");
    assert!(!users(&ill).is_empty(), "its keys come to it first");
}

#[test]
fn a_retry_goes_to_an_endpoint_that_its_call_has_not_tried() {
    let ill = [(); 2].map(|()| Origin::answering([answer(500, "", "")]));
    let well = Origin::answering([ok("")]);
    let proxy = before(&[&ill[0], &ill[1], &well], "balance = 'round-robin'", RETRIES);
    assert_eq!(ask(&proxy, 30), [200; 30]);
    let [first, second, well_] = counts([&ill[0], &ill[1], &well]);
    assert!(first <= 30 && second <= 30, "each at most once for a call: {first} {second}");
    assert_eq!(well_, 30);
    let story = proxy.story("0");
    let endpoints: BTreeSet<&str> = story
        .iter()
        .filter(|line| line["msg"].as_str().unwrap().starts_with("Retry"))
        .filter_map(|line| line["endpoint"].as_str())
        .collect();
    assert!(endpoints.iter().all(|it| [&ill[0], &ill[1]].iter().any(|ill| ill.to_string() == *it)));
}

#[test]
fn an_endpoint_that_is_gone_costs_no_call_and_is_named() {
    let gone = ClosedDoor::refusing();
    let well = Origin::answering([ok("")]);
    let proxy = before(&[&gone, &well], "", RETRIES);
    assert_eq!(ask(&proxy, 100), [200; 100]);
    let state = proxy.state();
    let [gone_, well_] = [0, 1].map(|at| state["upstreams"][0]["endpoints"][at].clone());
    assert_eq!(gone_["url"], gone.to_string());
    let attempts = gone_["attempts"].as_u64().unwrap();
    assert!((1..=5).contains(&attempts), "{state}");
    assert_eq!((&gone_["failures"], &gone_["in_flight"]), (&attempts.into(), &Value::from(0)));
    assert_eq!((&well_["attempts"], &well_["failures"]), (&100.into(), &Value::from(0)));

    let alone = before(&[&gone, &ClosedDoor::refusing()], "", "");
    assert_eq!(alone.ask(get("/", "1")).status(), 502);
    let line = alone.story("1").pop().expect("an access line");
    let endpoint = line["endpoint"].as_str().expect("an endpoint");
    assert_eq!(format!("http://{}", line["address"].as_str().unwrap()), endpoint);
}

#[test]
fn one_that_was_gone_for_a_moment_soon_gets_its_share_again() {
    let (gone, well) = (ClosedDoor::refusing(), Origin::answering([ok("")]));
    let proxy = before(&[&gone, &well], "", "");
    assert_eq!(ask(&proxy, 10), [200; 10]);
    let state = proxy.state();
    let endpoint = &state["upstreams"][0]["endpoints"][0];
    assert_eq!((&endpoint["failures"], &endpoint["state"]), (&1.into(), &"in".into()), "{state}");
    let opened = Instant::now();
    let back = gone.opened(|connection| {
        while connection.request().is_some() {
            connection.wire.send(ok(""));
        }
    });
    eventually("it is asked often", || {
        assert_eq!(ask(&proxy, 10), [200; 10]);
        (back.seen().len() > 50).then_some(())
    });
    assert!(opened.elapsed() < Duration::from_secs(10), "{:?}", opened.elapsed());
}

/// Longer than a few answers take on a busy machine.
const SLOW: Duration = Duration::from_secs(20);

#[test]
fn a_hedge_goes_to_another_endpoint() {
    let (slow, well) = (slow(SLOW), Origin::answering([ok("")]));
    let hedge = "policies = ['h']\n[policies.h]\nkind = 'hedge'\ndelay = '20ms'\nbudget = 'none'\n";
    let proxy = before(&[&slow, &well], "balance = 'round-robin'", hedge);
    let begun = Instant::now();
    assert_eq!(ask(&proxy, 6), [200; 6]);
    assert!(begun.elapsed() < SLOW, "no hedge goes to the slow one: {:?}", begun.elapsed());
    // The slow one may have been given up before it has read anything.
    assert_eq!(well.seen().len(), 6);
    proxy.line("Hedge 1 won");
    let state = proxy.state();
    assert_eq!(state["upstreams"][0]["endpoints"][0]["in_flight"], 0, "those that lost are cut");
    assert_eq!(state["upstreams"][0]["balance"], "round-robin");
}

#[test]
fn ten_thousand_endpoints_are_read_at_once() {
    let mut text = "[upstreams.b]\nendpoints = [\n".to_owned();
    for number in 0..10_000u32 {
        writeln!(text, "'http://10.{}.{}.1:{}',", number / 256, number % 256, 1 + number).unwrap();
    }
    text.push_str("]\n[[routes]]\nupstream = 'b'\n");
    let begun = Instant::now();
    let Ran { code, out, error } = fusebox(directory(&config(&text)).path(), &["check"]);
    assert_eq!((code, verdict(&out), &*error), (Some(0), "fusebox.toml: ok", ""));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// One that answers with this status, which can be changed.
struct Moody {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Moody {
    fn new(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let now = status.clone();
        let origin = Origin::start(move |connection| {
            while connection.request().is_some() {
                let answer = answer(now.load(Ordering::SeqCst), "", "");
                if connection.wire.try_send(answer).is_err() {
                    return;
                }
            }
        });
        Self { origin, status }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// How many requests for this path have come.
    fn seen(&self, path: &str) -> usize {
        self.origin.seen().iter().filter(|seen| seen.request.target() == path).count()
    }
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

/// The state of each endpoint.
fn states(proxy: &Proxy) -> Vec<String> {
    let state = proxy.state();
    let endpoints = state["upstreams"][0]["endpoints"].as_array().expect("a list").iter();
    endpoints.map(|it| it["state"].as_str().expect("a word").to_owned()).collect()
}

#[track_caller]
fn until_states(proxy: &Proxy, expected: &[&str]) {
    eventually("these states", || (states(proxy) == expected).then_some(()));
}

#[test]
fn five_failures_in_a_row_eject_an_endpoint_until_its_time_is_over() {
    let (moody, well) = (Moody::new(500), Moody::new(200));
    let upstream = "balance = 'round-robin'\nhealth = { base = '1s', max = '1s' }";
    let proxy = before(&[&moody, &well], upstream, "");
    let failed = ask(&proxy, 30).iter().filter(|status| **status == 500).count();
    assert_eq!((failed, moody.seen("/")), (5, 5), "then nobody goes there");
    let line = proxy.line("Endpoint ejected");
    assert_eq!((&line["upstream"], &line["failures"]), (&"b".into(), &5.into()));
    assert_eq!(line["endpoint"], moody.to_string());
    assert_eq!(line["ejected_ms"].as_f64(), Some(1000.0));
    assert_eq!(
        (&line["attempt"], &line["route"]),
        (&1.into(), &"/".into()),
        "which call led to it"
    );
    assert_eq!(states(&proxy), ["ejected", "in"]);
    let series =
        |what: &str| format!(r#"fusebox_endpoint_{what}{{upstream="b",endpoint="{moody}"}}"#);
    proxy.counts(&[
        (&series("in"), 0.0),
        (&series("ejections_total"), 1.0),
        (&series("attempts_total"), 5.0),
        (&series("failures_total"), 5.0),
    ]);

    proxy.line("Endpoint returned");
    assert_eq!(states(&proxy), ["in", "in"]);
    let failed = ask(&proxy, 10).iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 1, "one failure is enough after it has returned");
    moody.answers(200);
    until_states(&proxy, &["in", "in"]);
    assert_eq!(ask(&proxy, 10), [200; 10]);
    assert_eq!(moody.seen("/"), 5 + 1 + 5);
}

#[test]
fn an_endpoint_that_is_gone_is_ejected_and_one_that_is_busy_is_not() {
    let (gone, busy) = (ClosedDoor::refusing(), Moody::new(429));
    let proxy = before(&[&gone, &busy], "balance = 'round-robin'", "");
    let answers = ask(&proxy, 30);
    assert_eq!(answers, [429; 30], "who is refused goes elsewhere");
    assert_eq!(states(&proxy), ["ejected", "in"]);
    let again = r#"fusebox_attempts_sent_again_total{route="/"}"#;
    proxy.counts(&[(again, 5.0)]);
}

/// Half of the endpoints are ejected at most, so the one that has gone since stays in.
#[test]
fn one_that_is_out_is_asked_before_nobody_is() {
    let (back, well) = (Moody::new(503), Origin::answering([ok("")]));
    let upstream = "balance = 'round-robin'\nhealth = { consecutive = 1, base = '1h', max = '1h' }";
    let proxy = before(&[&back, &well], upstream, "");
    eventually("it is out", || {
        proxy.ask(get("/", "ill"));
        (states(&proxy) == ["ejected", "in"]).then_some(())
    });
    let _gone = ClosedDoor::in_place_of(well);
    back.answers(200);
    assert_eq!(ask(&proxy, 20), [200; 20]);
    assert_eq!(proxy.story("3").pop().expect("an access line")["attempts"], 1);
}

#[test]
fn nobody_is_ejected_if_nobody_wants_it() {
    let (ill, well) = (Moody::new(503), Moody::new(200));
    let upstream = "balance = 'round-robin'\nhealth = { consecutive = 0 }";
    let proxy = before(&[&ill, &well], upstream, "");
    assert_eq!(ask(&proxy, 40).iter().filter(|status| **status == 503).count(), 20);
    assert_eq!(states(&proxy), ["in", "in"]);
}

#[test]
fn a_body_that_breaks_off_counts_as_a_failure_of_its_endpoint() {
    let broken = Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        }
    });
    let well = Moody::new(200);
    let proxy = before(&[&broken, &well], "balance = 'round-robin'", "");
    for at in 0..30 {
        let mut wire = proxy.connect();
        wire.send(get("/", &at.to_string()).replacen("\r\n", "\r\nconnection: close\r\n", 1));
        wire.rest();
    }
    assert_eq!(broken.seen().len(), 5);
    assert_eq!(states(&proxy), ["ejected", "in"]);
    assert_eq!(proxy.state()["upstreams"][0]["endpoints"][0]["in_flight"], 0);
}

#[test]
fn endpoints_whose_checks_fail_get_no_requests_unless_more_than_half_are_down() {
    let endpoints = [(); 3].map(|()| Moody::new(200));
    let [a, b, c] = &endpoints;
    let upstream = "balance = 'round-robin'\n\
                    health = { path = '/healthz?x', interval = '20ms', expect = ['200', '3xx'] }";
    let proxy = before(&[a, b, c], upstream, "");
    a.answers(404);
    until_states(&proxy, &["down", "in", "in"]);
    let line = proxy.line("Endpoint down: its checks fail");
    assert_eq!(
        (&line["endpoint"], &line["reason"]),
        (&a.to_string().into(), &"answered 404".into())
    );
    assert_eq!(ask(&proxy, 10), [200; 10]);
    assert_eq!(a.seen("/"), 0);
    assert!(a.seen("/healthz?x") >= 2 && c.seen("/healthz?x") >= 1);

    b.answers(404);
    until_states(&proxy, &["down", "down", "in"]);
    let line = proxy.line("All endpoints used: more than half are ejected, down or open");
    assert_eq!((&line["out"], &line["count"]), (&2.into(), &3.into()));
    let answers = ask(&proxy, 9);
    assert_eq!(answers.iter().filter(|status| **status == 404).count(), 6, "{answers:?}");

    b.answers(302);
    until_states(&proxy, &["down", "in", "in"]);
    proxy.line("Endpoint up: its checks pass");
    proxy.line("Only endpoints used that are neither ejected, down nor open");
    let before = a.seen("/");
    ask(&proxy, 10);
    assert_eq!(a.seen("/"), before);
}

/// Checks that pass all the while say nothing of what requests came to.
#[test]
fn checks_that_pass_again_end_an_ejection() {
    let statuses = Arc::new([AtomicU16::new(200), AtomicU16::new(500)]);
    let says = statuses.clone();
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            let status = &says[usize::from(seen.request.target() != "/healthz")];
            connection.wire.send(answer(status.load(Ordering::SeqCst), "", ""));
        }
    });
    let seen = |path: &str| {
        let seen = origin.seen();
        seen.iter().filter(|seen| seen.request.target() == path).count()
    };
    let well = Moody::new(200);
    let upstream = "balance = 'round-robin'\nhealth = { path = '/healthz', interval = '20ms', \
                    base = '1h', max = '1h' }";
    let proxy = before(&[&origin, &well], upstream, "");
    ask(&proxy, 20);
    until_states(&proxy, &["ejected", "in"]);
    let before = seen("/healthz");
    eventually("more checks", || (seen("/healthz") > before + 5).then_some(()));
    assert_eq!(states(&proxy), ["ejected", "in"]);

    statuses[0].store(503, Ordering::SeqCst);
    proxy.line("Endpoint down: its checks fail");
    assert_eq!(proxy.lines("Endpoint returned"), [Value::Null; 0]);
    statuses.iter().for_each(|status| status.store(200, Ordering::SeqCst));
    proxy.line("Endpoint up: its checks pass");
    let line = proxy.line("Endpoint returned");
    assert_eq!(line["endpoint"], origin.to_string());
    assert_eq!(states(&proxy), ["in", "in"]);
    let before = seen("/");
    assert_eq!(ask(&proxy, 10), [200; 10]);
    assert_eq!(seen("/"), before + 5);
}

#[test]
fn an_endpoint_that_comes_back_gets_its_share_by_degrees() {
    let (back, well) = (Moody::new(404), Moody::new(200));
    let upstream = "balance = 'round-robin'\nslow_start = '1h'\n\
                    health = { path = '/healthz', interval = '20ms' }";
    let proxy = before(&[&back, &well], upstream, "");
    until_states(&proxy, &["down", "in"]);
    back.answers(200);
    until_states(&proxy, &["in", "in"]);
    assert_eq!(ask(&proxy, 200), [200; 200]);
    let taken = back.seen("/");
    assert!((1..60).contains(&taken), "a tenth of its turns, not half: {taken}");
}

/// Answers until it has gone, then closes what it has in place of an answer.
fn serving(gone: &Arc<AtomicBool>) -> impl Fn(&mut OriginConnection) + Send + Sync + 'static {
    let gone = gone.clone();
    move |connection| {
        while connection.request().is_some() && !gone.load(Ordering::SeqCst) {
            if connection.wire.try_send(ok("")).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_rolling_restart_of_all_endpoints_fails_no_request() {
    let start = |_| {
        let gone = Arc::<AtomicBool>::default();
        (Origin::start(serving(&gone)), gone)
    };
    let mut endpoints: Vec<(Origin, Arc<AtomicBool>)> = (0..3).map(start).collect();
    let urls: Vec<String> = endpoints.iter().map(|(origin, _)| origin.to_string()).collect();
    let upstream = "health = { consecutive = 1, base = '50ms', max = '100ms' }";
    let proxy = before(&[&urls[0], &urls[1], &urls[2]], upstream, RETRIES);
    let asked = asked_during(&proxy, 4, || {
        for _ in 0..3 {
            // The oldest goes, and comes back as the newest.
            let (origin, gone) = endpoints.remove(0);
            gone.store(true, Ordering::SeqCst);
            let door = ClosedDoor::in_place_of(origin);
            let served = || endpoints.iter().map(|(origin, _)| origin.seen().len()).sum::<usize>();
            let before = served();
            eventually("requests elsewhere", || (served() > before + 50).then_some(()));
            let gone = Arc::<AtomicBool>::default();
            let origin = door.opened(serving(&gone));
            eventually("requests here", || (origin.seen().len() > 10).then_some(()));
            endpoints.push((origin, gone));
        }
    });
    assert!(asked > 150, "{asked}");
    let state = proxy.state();
    let endpoints = state["upstreams"][0]["endpoints"].as_array().expect("a list").iter();
    let failures: u64 = endpoints.map(|it| it["failures"].as_u64().expect("a number")).sum();
    assert!(failures > 0, "they were asked while they were gone: {state}");
}

//! Upstreams with several endpoints: who gets which share, and where retries and hedges go.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use fusebox_dev::{ClosedDoor, Origin, Ran, answer, get, ok};
use serde_json::Value;

use crate::cli::{config, directory};
use crate::support::{Proxy, fusebox, verdict};

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
        (slow(30 * MS), Origin::answering([ok("")]), Origin::answering([ok("")]));
    let proxy = before(&[&slow, &first, &second], "", "");
    assert!(ask(&proxy, 300).iter().all(|status| *status == 200));
    let [slow, first, second] = counts([&slow, &first, &second]);
    assert!(slow >= 1, "it is tried");
    assert!(slow <= 15, "{slow}");
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
    assert!(served.iter().all(|users| users.len() > 4), "{served:?}");
    assert!(users(&ill).len() > 4, "its keys come to it first: {:?}", users(&ill));
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
fn a_hedge_goes_to_another_endpoint() {
    let (slow, well) = (slow(Duration::from_secs(5)), Origin::answering([ok("")]));
    let hedge = "policies = ['h']\n[policies.h]\nkind = 'hedge'\ndelay = '20ms'\nbudget = 'none'\n";
    let proxy = before(&[&slow, &well], "balance = 'round-robin'", hedge);
    assert_eq!(ask(&proxy, 6), [200; 6]);
    let [slow, _] = counts([&slow, &well]);
    assert!((2..=4).contains(&slow), "{slow}");
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

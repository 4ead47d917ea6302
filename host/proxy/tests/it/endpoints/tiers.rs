//! Endpoints of several tiers: those of a later one take over when none in front is in.

use fusebox_dev::{NameServer, Says, local};

use super::*;

/// One worker in front of these endpoints, each with its tier.
fn before(endpoints: &[(&dyn ToString, u16)], upstream: &str, route: &str) -> Proxy {
    let listed: Vec<_> = endpoints
        .iter()
        .map(|(url, tier)| format!("{{ url = '{}', tier = {tier} }}", url.to_string()))
        .collect();
    let text = format!(
        "workers = 1\n[upstreams.b]\nendpoints = [{}]\n{upstream}\n\
         [[routes]]\nupstream = 'b'\n{route}\n",
        listed.join(", ")
    );
    Proxy::before(&"", &text)
}

const LATER: &str = "Endpoints of a later tier used: none in front is in";
const EARLIER: &str = "Endpoints of an earlier tier used: one is in";

/// The tier in use, and its place as the metrics say it.
fn tier(proxy: &Proxy) -> (Value, f64) {
    let place = proxy.series()[r#"fusebox_upstream_tier{upstream="b"}"#];
    (proxy.state()["upstreams"][0]["tier"].clone(), place)
}

#[test]
fn a_later_tier_takes_over_when_none_in_front_is_in_and_gives_back() {
    let [a, b, reserve] = [200, 200, 200].map(Moody::new);
    let health =
        "balance = 'round-robin'\nhealth = { consecutive = 2, base = '500ms', max = '500ms' }";
    // The one in reserve comes first in the file.
    let proxy = before(&[(&reserve, 7), (&a, 0), (&b, 0)], health, RETRIES);
    assert_eq!((ask(&proxy, 20), reserve.seen("/")), (vec![200; 20], 0));
    assert_eq!(tier(&proxy), (0.into(), 0.0));
    let state = proxy.state();
    let shown = state["upstreams"][0]["endpoints"].as_array().expect("a list").iter();
    let shown: Vec<_> = shown.map(|it| (it["url"].clone(), it["tier"].clone())).collect();
    let expected = [(&a, 0), (&b, 0), (&reserve, 7)];
    assert_eq!(shown, expected.map(|(it, tier)| (it.to_string().into(), tier.into())));

    // One is left: it gets all.
    a.answers(500);
    assert_eq!(ask(&proxy, 20), [200; 20]);
    proxy.line("Endpoint ejected");
    assert_eq!((reserve.seen("/"), proxy.lines(LATER).len()), (0, 0));

    // A retry goes to the next tier when all of this one are tried.
    b.answers(500);
    let line = eventually("both are out at once", || {
        assert_eq!(ask(&proxy, 4), [200; 4]);
        proxy.lines(LATER).pop()
    });
    assert_eq!(
        (&line["upstream"], &line["from"], &line["to"], &line["level"]),
        (&"b".into(), &0.into(), &7.into(), &"WARN".into())
    );
    assert!(reserve.seen("/") > 0);
    assert_eq!(
        proxy.lines("All endpoints used: more than half are ejected, down or open").len(),
        0
    );

    a.answers(200);
    b.answers(200);
    let line = proxy.line(EARLIER);
    assert_eq!((&line["from"], &line["to"]), (&7.into(), &0.into()));
    eventually("both are in", || (states(&proxy) == ["in"; 3]).then_some(()));
    // They are tried by one request each, and have the others then.
    assert_eq!(ask(&proxy, 4), [200; 4]);
    let before = reserve.seen("/");
    assert_eq!(ask(&proxy, 20), [200; 20]);
    assert_eq!((reserve.seen("/"), tier(&proxy)), (before, (0.into(), 0.0)));
}

#[test]
fn who_is_back_is_tried_by_one_request_while_the_reserve_has_the_others() {
    let (gate, door) = (Arc::<AtomicBool>::default(), Arc::new(AtomicU16::new(500)));
    let (is_open, status) = (gate.clone(), door.clone());
    let first = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            let status = status.load(Ordering::SeqCst);
            if seen.request.header("x-request-id") == Some("trial") {
                eventually("it may answer", || is_open.load(Ordering::SeqCst).then_some(()));
            }
            if connection.wire.try_send(answer(status, "", "")).is_err() {
                return;
            }
        }
    });
    let reserve = Moody::new(200);
    let health = "health = { consecutive = 1, base = '200ms', max = '200ms' }";
    let proxy = before(&[(&first, 0), (&reserve, 1)], health, "");
    assert_eq!(ask(&proxy, 1), [500]);
    door.store(200, Ordering::SeqCst);
    proxy.line("Endpoint returned");
    thread::scope(|scope| {
        let _ends = Ends(&gate);
        let begun = Instant::now();
        let trial = scope.spawn(|| proxy.ask(get("/", "trial")).status());
        eventually("the trial", || (first.seen().len() == 2).then_some(()));
        assert_eq!(ask(&proxy, 10), [200; 10]);
        // A second later another one may try.
        if begun.elapsed() < Duration::from_secs(1) {
            assert_eq!((first.seen().len(), reserve.seen("/")), (2, 10));
        }
        gate.store(true, Ordering::SeqCst);
        assert_eq!(trial.join().expect("an answer"), 200);
    });
    let before = reserve.seen("/");
    assert_eq!((ask(&proxy, 10), reserve.seen("/")), (vec![200; 10], before));
}

#[test]
fn a_tier_that_dies_under_load_and_comes_back_fails_no_request() {
    let gone = Arc::<AtomicBool>::default();
    let first = [(); 2].map(|()| Origin::start(serving(&gone)));
    let reserve = Moody::new(200);
    let server = NameServer::start(Says::Addresses(vec![local(1)]), Says::Nothing, 1);
    let port = |origin: &Origin| origin.address().port();
    server.offers(&[
        (20, 0, port(&reserve.origin), "c.test"),
        (10, 1, port(&first[0]), "a.test"),
        (10, 1, port(&first[1]), "b.test"),
    ]);
    let text = format!(
        "workers = 1\n[upstreams.b]\n\
         health = {{ consecutive = 2, base = '50ms', max = '200ms' }}\n\
         endpoints = {{ srv = '_http._tcp.b.test', resolver = '{server}' }}\n\
         [[routes]]\nupstream = 'b'\n{RETRIES}"
    );
    let proxy = Proxy::before(&"", &text);
    let asked = asked_during(&proxy, 4, || {
        eventually("requests", || first.iter().all(|it| it.seen().len() > 20).then_some(()));
        assert_eq!(reserve.seen("/"), 0);
        gone.store(true, Ordering::SeqCst);
        let doors = first.map(ClosedDoor::in_place_of);
        proxy.line(LATER);
        let before = reserve.seen("/");
        eventually("more in reserve", || (reserve.seen("/") > before + 100).then_some(()));
        let back = doors.map(|door| door.opened(serving(&Arc::default())));
        eventually("they are back", || back.iter().all(|it| it.seen().len() > 50).then_some(()));
        eventually("all are in", || (states(&proxy) == ["in"; 3]).then_some(()));
        let (before, seen) = (reserve.seen("/"), back[0].seen().len());
        eventually("requests there", || (back[0].seen().len() > seen + 50).then_some(()));
        assert_eq!(reserve.seen("/"), before, "nobody needs the reserve any more");
    });
    assert!(asked > 200, "{asked}");
    proxy.line(EARLIER);
}

#[test]
fn all_of_a_tier_are_used_only_if_no_other_can_take_over() {
    let endpoints = [(); 3].map(|()| Moody::new(200));
    let [a, b, reserve] = &endpoints;
    let checks = "balance = 'round-robin'\nhealth = { path = '/healthz', interval = '20ms' }";
    let proxy = before(&[(a, 0), (b, 0), (reserve, 1)], checks, "");
    eventually("checks of all", || {
        endpoints.iter().all(|it| it.seen("/healthz") > 0).then_some(())
    });
    let all = "All endpoints used: more than half are ejected, down or open";
    a.answers(404);
    b.answers(404);
    until_states(&proxy, &["down", "down", "in"]);
    proxy.line(LATER);
    assert_eq!((ask(&proxy, 4), reserve.seen("/")), (vec![200; 4], 4));
    assert_eq!(proxy.lines(all).len(), 0);

    reserve.answers(404);
    until_states(&proxy, &["down", "down", "down"]);
    let line = proxy.line(all);
    assert_eq!((&line["tier"], &line["out"], &line["count"]), (&0.into(), &2.into(), &2.into()));
    assert_eq!((ask(&proxy, 4), a.seen("/"), b.seen("/")), (vec![404; 4], 2, 2));

    reserve.answers(200);
    let line = proxy.line("Only endpoints used that are neither ejected, down nor open");
    assert_eq!((&line["tier"], &line["out"]), (&1.into(), &0.into()));
    assert_eq!((ask(&proxy, 4), reserve.seen("/")), (vec![200; 4], 8));
}

#[test]
fn a_hedge_goes_to_the_next_tier_if_all_of_this_one_are_tried() {
    let (slow, reserve) = (slow(Duration::from_secs(5)), Moody::new(200));
    let route = "policies = ['twice']\n[policies.twice]\nkind = 'hedge'\ndelay = '10ms'\n";
    let proxy = before(&[(&slow, 0), (&reserve, 1)], "", route);
    assert_eq!((ask(&proxy, 1), reserve.seen("/")), (vec![200], 1));
}

#[test]
fn a_tier_whose_circuits_are_open_is_passed_over() {
    let [first, reserve] = [500, 200].map(Moody::new);
    let (upstream, route) = (breakers::UPSTREAM, breakers::only(2, "delay = '1h'"));
    let proxy = before(&[(&first, 0), (&reserve, 1)], upstream, &route);
    assert_eq!(ask(&proxy, 6), [500, 500, 200, 200, 200, 200]);
    reserve.answers(500);
    assert_eq!(ask(&proxy, 4), [500, 500, 503, 503], "then all are open");
    assert_eq!((first.seen("/"), reserve.seen("/")), (2, 6));
}

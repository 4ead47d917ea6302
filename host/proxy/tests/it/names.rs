//! Upstreams whose endpoints are all addresses of a name, as a name server says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fusebox_dev::{
    Authority, H2Origin, NXDOMAIN, NameServer, Origin, OriginConnection, SERVFAIL, Says, answer,
    eventually, get, local, ok,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cli::{complaints, config, directory};
use crate::support::{Proxy, asked_during};

/// How origins behave together.
#[derive(Default)]
struct Copies {
    /// Requests for `/slow` are answered.
    are_free: AtomicBool,
    /// Connections that have ended, by the last number of the address.
    ended: [AtomicUsize; 5],
}

impl Copies {
    /// One at each of these addresses of this machine, at the same port.
    fn start<const N: usize>(self: &Arc<Self>, addresses: [IpAddr; N]) -> [Origin; N] {
        loop {
            let first = TcpListener::bind((addresses[0], 0)).expect("a port");
            let port = first.local_addr().expect("an address").port();
            let others = addresses[1..].iter().map(|ip| TcpListener::bind((*ip, port)));
            let Ok(others) = others.collect::<Result<Vec<_>, _>>() else { continue };
            let mut listeners = [first].into_iter().chain(others);
            return [(); N].map(|()| {
                let listener = listeners.next().expect("one for each");
                let number = match listener.local_addr().expect("an address").ip() {
                    IpAddr::V4(v4) => v4.octets()[3],
                    IpAddr::V6(_) => 0,
                };
                let copies = self.clone();
                Origin::on(listener, move |connection| copies.serve(number.into(), connection))
            });
        }
    }

    fn serve(&self, number: usize, connection: &mut OriginConnection) {
        while let Some(seen) = connection.request() {
            if seen.request.target() == "/slow" {
                eventually("it is free", || self.are_free.load(Ordering::SeqCst).then_some(()));
            }
            if connection.wire.try_send(ok(&number.to_string())).is_err() {
                break;
            }
        }
        self.ended[number].fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, number: usize) -> usize {
        self.ended[number].load(Ordering::SeqCst)
    }
}

fn of(addresses: &[u8]) -> Says {
    Says::Addresses(addresses.iter().map(|last| local(*last)).collect())
}

/// The upstream `b` at the addresses of `b.test`, at the port of this origin, with more of its
/// table.
fn upstream(origin: &Origin, server: &NameServer, more: &str) -> String {
    let port = origin.address().port();
    format!(
        "workers = 1\n[upstreams.b]\nbalance = 'round-robin'\n\
         endpoints = {{ dns = 'b.test:{port}', resolver = '{server}' }}\n{more}\n\
         [[routes]]\nupstream = 'b'\n"
    )
}

/// The last numbers of the endpoints' addresses.
fn endpoints(proxy: &Proxy) -> Vec<String> {
    let state = proxy.state();
    let endpoints = state["upstreams"][0]["endpoints"].as_array().expect("a list").iter();
    let host = |url: &Value| {
        let url = url.as_str().expect("a URL").trim_start_matches("http://").to_owned();
        url.rsplit_once(':').expect("a port").0.trim_start_matches("127.0.0.").to_owned()
    };
    endpoints.map(|it| host(&it["url"])).collect()
}

#[track_caller]
fn until_endpoints(proxy: &Proxy, expected: &[&str]) {
    eventually("these endpoints", || (endpoints(proxy) == expected).then_some(()));
}

/// Who has answered so many requests, one after the other.
#[track_caller]
fn answering(proxy: &Proxy, times: usize) -> BTreeSet<String> {
    let mut wire = proxy.connect();
    let ask = |at: usize| {
        let answer = wire.ask(get("/", &format!("ask-{at}")));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text().to_owned()
    };
    (0..times).map(ask).collect()
}

fn for_each_in_parallel<T: Send, const N: usize>(cases: [T; N], test: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for test in cases.map(|case| scope.spawn(|| test(case))) {
            test.join().expect("it passes");
        }
    });
}

#[test]
fn endpoints_come_and_go_with_the_addresses_of_their_name_and_no_request_fails() {
    let copies = Arc::<Copies>::default();
    let origins = copies.start([1, 2, 3, 4].map(local));
    let server = NameServer::start(of(&[2, 1]), Says::Nothing, 1);
    let proxy = Proxy::before(&"", &upstream(&origins[0], &server, ""));
    assert_eq!(answering(&proxy, 4), ["1", "2"].map(str::to_owned).into());
    let first = proxy.line("Endpoints changed");
    let url = |at: usize| origins[at].to_string();
    assert_eq!(first["added"], format!("{}, {}", url(0), url(1)));
    assert_eq!((&first["upstream"], &first["count"]), (&"b".into(), &2.into()));
    let asked = asked_during(&proxy, 3, || {
        thread::scope(|scope| {
            let slow = scope.spawn(|| proxy.ask(get("/slow", "slow")).text().to_owned());
            let has_slow =
                |it: &Origin| it.seen().iter().any(|seen| seen.request.target() == "/slow");
            eventually("a slow request", || origins.iter().any(has_slow).then_some(()));
            let seen = |at: usize| origins[at].seen().len();
            // It grows,
            server.says(of(&[1, 2, 3]), Says::Nothing);
            eventually("requests at the new one", || (seen(2) > 20).then_some(()));
            // shrinks,
            server.says(of(&[3]), Says::Nothing);
            until_endpoints(&proxy, &["3"]);
            answering(&proxy, 10);
            let (gone, before) = (seen(0) + seen(1), seen(2));
            eventually("requests at the one that is left", || {
                (seen(2) > before + 50).then_some(())
            });
            assert_eq!(seen(0) + seen(1), gone, "those that have gone get none");
            // and is wholly another.
            server.says(of(&[4]), Says::Nothing);
            until_endpoints(&proxy, &["4"]);
            assert_eq!(answering(&proxy, 4), ["4".to_owned()].into());
            eventually("the connections to those that have gone are closed", || {
                let [one, two, three] = [1, 2, 3].map(|number| copies.ended(number));
                // One of the first two has a request under way.
                (one + two > 0 && three == origins[2].connections()).then_some(())
            });
            copies.are_free.store(true, Ordering::SeqCst);
            assert!(["1", "2"].contains(&&*slow.join().expect("an answer")), "it ends in peace");
            eventually("its connection is closed as well", || {
                let connections = origins[0].connections() + origins[1].connections();
                (copies.ended(1) + copies.ended(2) == connections).then_some(())
            });
        });
    });
    assert!(asked > 100, "{asked}");
    let last = eventually("the last change", || {
        proxy.lines("Endpoints changed").into_iter().find(|line| line["added"] == url(3))
    });
    assert_eq!(last["removed"], url(2));
    assert_eq!(last["count"], 1);
    let shown = proxy.admin("GET /metrics");
    let series = shown.text().lines().filter(|line| line.starts_with("fusebox_endpoint_in{"));
    let series: Vec<_> = series.collect();
    let only = format!("fusebox_endpoint_in{{upstream=\"b\",endpoint=\"{}\"}} 1", url(3));
    assert_eq!(series, [only], "the series of those that have gone are gone");
    proxy.counts(&[
        ("fusebox_upstream_endpoints{upstream=\"b\"}", 1.0),
        ("fusebox_upstream_lookup_failing{upstream=\"b\"}", 0.0),
    ]);
}

#[test]
fn over_http2_too_no_request_fails_and_what_is_under_way_ends_in_peace() {
    let first = TcpListener::bind((local(1), 0)).expect("a port");
    let port = first.local_addr().expect("an address").port();
    let second = TcpListener::bind((local(2), port)).expect("the same port");
    let is_free = Arc::<AtomicBool>::default();
    let [first, second] = [(first, "1"), (second, "2")].map(|(listener, text)| {
        let is_free = is_free.clone();
        H2Origin::on(listener, h2::server::Builder::new(), move |mut exchange| {
            let is_free = is_free.clone();
            async move {
                while exchange.path == "/slow" && !is_free.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                exchange.ok(text);
            }
        })
    });
    let server = NameServer::start(of(&[1]), Says::Nothing, 1);
    let text = format!(
        "workers = 1\n[upstreams.b]\nprotocol = 'http2'\n\
         endpoints = {{ dns = 'b.test:{port}', resolver = '{server}' }}\n\
         [[routes]]\nupstream = 'b'\n"
    );
    let proxy = Proxy::before(&"", &text);
    thread::scope(|scope| {
        let slow = scope.spawn(|| proxy.ask(get("/slow", "slow")).text().to_owned());
        eventually("a slow request", || (!first.seen().is_empty()).then_some(()));
        assert_eq!(answering(&proxy, 4), ["1".to_owned()].into());
        server.says(of(&[2]), Says::Nothing);
        until_endpoints(&proxy, &["2"]);
        assert_eq!(answering(&proxy, 4), ["2".to_owned()].into());
        is_free.store(true, Ordering::SeqCst);
        assert_eq!(slow.join().expect("an answer"), "1");
    });
    assert_eq!((first.seen().len(), first.connections()), (5, 1));
    assert_eq!((second.seen().len(), second.connections()), (4, 1));
}

#[test]
fn the_last_addresses_stay_while_nobody_knows_others() {
    let cases = [
        (Says::Code(NXDOMAIN), "there is no such name"),
        (Says::Nothing, "the name has no addresses"),
        (Says::Code(SERVFAIL), "Server Failure"),
        (Says::Silence, "timed out"),
        (Says::Garbage, "timed out"),
        (Says::Addresses(vec![[0, 0, 0, 0].into()]), "its addresses lead nowhere"),
    ];
    for_each_in_parallel(cases, |(says, words)| {
        let origins = Arc::<Copies>::default().start([1, 2].map(local));
        let server = NameServer::start(of(&[1, 2]), Says::Nothing, 1);
        let proxy = Proxy::before(&"", &upstream(&origins[0], &server, ""));
        until_endpoints(&proxy, &["1", "2"]);
        server.says(says.clone(), says.clone());
        let line = proxy.line("Endpoint not looked up: its last addresses are used");
        let reason = line["reason"].as_str().expect("a reason");
        assert!(reason.contains(words), "{says:?}: {reason}");
        let port = origins[0].address().port();
        assert_eq!(line["endpoint"], format!("http://b.test:{port}"), "{says:?}");
        assert_eq!(answering(&proxy, 4).len(), 2, "{says:?}");
        let problem = proxy.state()["upstreams"][0]["dns"]["problem"].clone();
        assert!(problem.as_str().is_some_and(|it| it.contains(words)), "{says:?}: {problem}");
        proxy.counts(&[("fusebox_upstream_lookup_failing{upstream=\"b\"}", 1.0)]);
        server.says(of(&[2]), Says::Nothing);
        proxy.line("Endpoint looked up again");
        until_endpoints(&proxy, &["2"]);
        assert_eq!(proxy.state()["upstreams"][0]["dns"]["problem"], Value::Null);
    });
}

#[test]
fn addresses_of_both_families_are_endpoints_and_one_that_fails_keeps_its_own() {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    if TcpListener::bind((v6, 0)).is_err() {
        return;
    }
    let origins = Arc::<Copies>::default().start([local(1), local(2), v6]);
    let server = NameServer::start(of(&[1]), Says::Addresses(vec![v6]), 1);
    let proxy = Proxy::before(&"", &upstream(&origins[0], &server, ""));
    assert_eq!(answering(&proxy, 4), ["0", "1"].map(str::to_owned).into());
    assert_eq!(endpoints(&proxy), ["1", "[::1]"]);
    server.says(of(&[1, 2]), Says::Code(SERVFAIL));
    until_endpoints(&proxy, &["1", "2", "[::1]"]);
    proxy.line("Endpoint not looked up: its last addresses are used");
    server.says(of(&[2]), Says::Nothing);
    until_endpoints(&proxy, &["2"]);
}

#[test]
fn an_answer_that_is_too_long_is_asked_for_by_tcp() {
    let origins = Arc::<Copies>::default().start([1, 2].map(local));
    let server = NameServer::start(Says::Longer(vec![local(2), local(1)]), Says::Nothing, 60);
    let proxy = Proxy::before(&"", &upstream(&origins[0], &server, ""));
    assert_eq!(answering(&proxy, 4).len(), 2);
    assert!(server.asked().iter().any(|asked| asked.by_tcp));
}

#[test]
fn a_name_is_looked_up_when_its_time_is_over_and_once_a_second_at_most() {
    for_each_in_parallel([0, 1, 2], |seconds| {
        let origins = Arc::<Copies>::default().start([1].map(local));
        let server = NameServer::start(of(&[1]), Says::Nothing, seconds);
        let _proxy = Proxy::before(&"", &upstream(&origins[0], &server, ""));
        let asked = eventually("questions", || {
            let asked: Vec<_> = server.asked().into_iter().filter(|asked| !asked.is_v6).collect();
            (asked.len() >= 3).then_some(asked)
        });
        assert!(asked.iter().all(|asked| asked.name == "b.test"), "{asked:?}");
        let least = Duration::from_secs(seconds.max(1).into());
        for pair in asked.windows(2) {
            let passed = pair[1].at - pair[0].at;
            assert!(passed > least * 9 / 10, "{seconds} s: {passed:?}");
            assert!(passed < least + Duration::from_secs(20), "{seconds} s: {passed:?}");
        }
    });
}

#[test]
fn a_name_that_does_not_resolve_yet_keeps_nothing_from_starting() {
    let origins = Arc::<Copies>::default().start([1].map(local));
    let server = NameServer::start(Says::Code(NXDOMAIN), Says::Code(NXDOMAIN), 1);
    let more = format!("[[routes]]\npath = '/other'\nupstream = '{}'\n", origins[0]);
    let proxy = Proxy::before(&"", &(upstream(&origins[0], &server, "") + &more));
    let answer = proxy.ask(get("/", "1"));
    assert_eq!(answer.status(), 502);
    let status = answer.header("proxy-status").expect("a status");
    assert!(status.contains("error=dns_error"), "{status}");
    let reason = Value::from("there is no such name");
    let line = proxy.story("1").pop().expect("an access line");
    assert_eq!((&line["failure"], &line["detail"]), (&"dns".into(), &reason));
    let line = proxy.line("Endpoint not looked up: no address of it is known");
    assert_eq!((&line["upstream"], &line["reason"]), (&"b".into(), &reason));
    assert_eq!(proxy.ask(get("/other", "2")).status(), 200);
    assert_eq!(proxy.admin("GET /readyz").status(), 200);
    let shown = proxy.state()["upstreams"][0].clone();
    assert_eq!((&shown["endpoints"], &shown["dns"]["problem"]), (&Value::Array(vec![]), &reason));
    server.says(of(&[1]), Says::Nothing);
    until_endpoints(&proxy, &["1"]);
    assert_eq!(proxy.ask(get("/", "3")).status(), 200);
    proxy.line("Endpoint looked up again");
}

#[test]
fn the_first_requests_wait_for_the_first_answer_as_long_as_for_a_connection() {
    let origins = Arc::<Copies>::default().start([1].map(local));
    let server = NameServer::start(Says::Silence, Says::Silence, 1);
    let more = "connect_timeout = '300ms'";
    let proxy = Proxy::before(&"", &upstream(&origins[0], &server, more));
    let begun = Instant::now();
    let answer = proxy.ask(get("/", "1"));
    assert_eq!(answer.status(), 502, "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    let line = proxy.story("1").pop().expect("an access line");
    assert_eq!((&line["failure"], &line["detail"]), (&"dns".into(), &"no answer in time".into()));

    let server = NameServer::start(Says::Silence, Says::Silence, 1);
    let proxy = Proxy::before(&"", &upstream(&origins[0], &server, "connect_timeout = '1m'"));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| proxy.ask(get("/", "1")).status());
        eventually("a question", || (!server.asked().is_empty()).then_some(()));
        server.says(of(&[1]), Says::Nothing);
        assert_eq!(waiting.join().expect("an answer"), 200);
    });
}

#[test]
fn the_certificate_and_the_host_are_those_of_the_name() {
    let authority = Authority::new("theirs");
    let tls = authority.issue("b", &["b.test"]).server();
    let origin = Origin::secured(tls, |connection| {
        while connection.request().is_some() {
            connection.wire.send(ok(""));
        }
    });
    let server = NameServer::start(of(&[1]), Says::Nothing, 60);
    let port = origin.address().port();
    let text = format!(
        "[upstreams.b]\nhost = 'upstream'\ntls = {{ ca = 'ca.pem' }}\n\
         endpoints = {{ dns = 'https://b.test:{port}/base', resolver = '{server}' }}\n\
         [[routes]]\nupstream = 'b'\n"
    );
    let proxy = Proxy::with_files(&"", &[("ca.pem", authority.pem().as_bytes())], &text);
    let answer = proxy.ask(get("/x", "1"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = origin.only();
    assert_eq!(seen.header("host"), Some(&*format!("b.test:{port}")));
    assert_eq!(seen.target(), "/base/x");
    let state = proxy.state();
    let url = &state["upstreams"][0]["endpoints"][0]["url"];
    assert_eq!(*url, format!("https://127.0.0.1:{port}/base"));
}

#[test]
fn checks_and_ejection_are_of_those_that_are_there() {
    let [first, _second] = Arc::<Copies>::default().start([1, 2].map(local));
    let ill = TcpListener::bind((local(3), first.address().port())).expect("a port");
    let ill = Origin::on(ill, |connection| {
        while let Some(seen) = connection.request() {
            let status = if seen.request.target() == "/healthz" { 500 } else { 200 };
            if connection.wire.try_send(answer(status, "", "3")).is_err() {
                return;
            }
        }
    });
    let server = NameServer::start(of(&[1, 2]), Says::Nothing, 1);
    let more = "health = { path = '/healthz', interval = '20ms' }";
    let proxy = Proxy::before(&"", &upstream(&first, &server, more));
    until_endpoints(&proxy, &["1", "2"]);
    server.says(of(&[1, 2, 3]), Says::Nothing);
    let line = proxy.line("Endpoint down: its checks fail");
    assert_eq!(line["endpoint"], ill.to_string());
    assert_eq!(answering(&proxy, 9), ["1", "2"].map(str::to_owned).into());
    server.says(of(&[1, 2]), Says::Nothing);
    until_endpoints(&proxy, &["1", "2"]);
    let (checks, before) = (ill.seen().len(), first.seen().len());
    eventually("checks of those that are left", || (first.seen().len() > before + 5).then_some(()));
    assert!(ill.seen().len() <= checks + 1, "one may have been under way");
}

#[test]
fn a_service_is_where_its_records_say_by_priority_and_weight() {
    let [first, second, reserve] = [(); 3].map(|()| Origin::answering([ok("")]));
    let ports = [&first, &second, &reserve].map(|origin| origin.address().port());
    let server = NameServer::start(of(&[1]), Says::Nothing, 1);
    server.offers(&[
        (20, 1, ports[2], "c.test"),
        (10, 3, ports[0], "a.test"),
        (10, 1, ports[1], "b.test"),
    ]);
    let text = format!(
        "workers = 1\n[upstreams.b]\nbalance = 'round-robin'\nhost = 'upstream'\n\
         endpoints = {{ srv = '_http._tcp.b.test', resolver = '{server}' }}\n\
         [[routes]]\nupstream = 'b'\n"
    );
    let proxy = Proxy::before(&"", &text);
    let ask = |times: usize| {
        let mut wire = proxy.connect();
        (0..times).for_each(|at| assert_eq!(wire.ask(get("/", &at.to_string())).status(), 200));
        [&first, &second, &reserve].map(|origin| origin.seen().len())
    };
    assert_eq!(ask(40), [30, 10, 0]);
    let host = first.seen()[0].request.header("host").expect("one").to_owned();
    assert_eq!(host, format!("b.test:{}", ports[0]), "the name behind the service");
    let state = proxy.state();
    assert_eq!(state["upstreams"][0]["dns"]["url"], "http://_http._tcp.b.test");
    let tiers: Vec<_> = (0..3).map(|at| &state["upstreams"][0]["endpoints"][at]["tier"]).collect();
    assert_eq!(
        (tiers, &state["upstreams"][0]["tier"]),
        (vec![&10.into(), &10.into(), &20.into()], &10.into())
    );

    server.offers(&[(20, 1, ports[2], "c.test")]);
    eventually("the reserve is used", || (ask(1)[2] > 0).then_some(()));
    let before = ask(0);
    server.offers(&[(0, 0, 0, ".")]);
    let line = proxy.line("Endpoint not looked up: its last addresses are used");
    assert_eq!(line["reason"], "the service is not offered");
    assert_eq!(ask(3), [before[0], before[1], before[2] + 3]);
}

#[test]
fn what_is_declared_wrong_is_said_once_and_where() {
    let name = |found: &str, what: &str| {
        format!(
            "endpoints.dns: expected `name:port` or `http[s]://name[:port][/base]`, found \
             `{found}`{what}"
        )
    };
    let server = |found: &str| {
        format!(
            "endpoints.resolver: expected the address of a name server, such as \
             \"127.0.0.1:53\", found `{found}`"
        )
    };
    let address = ": an address is no name; it goes into a list";
    for (endpoints, expected) in [
        ("{ dns = 'b.test' }", name("b.test", ": a port is missing")),
        ("{ dns = '' }", name("", "")),
        ("{ dns = 'b.test:0' }", name("b.test:0", "")),
        ("{ dns = 'b.test:80:80' }", name("b.test:80:80", "")),
        ("{ dns = 'b..test:80' }", name("b..test:80", ": not a name")),
        ("{ dns = 'ftp://b.test' }", name("ftp://b.test", "")),
        ("{ dns = 'b.test:80?x=1' }", name("b.test:80?x=1", "")),
        ("{ dns = '127.0.0.1:80' }", name("127.0.0.1:80", address)),
        ("{ dns = 'https://[::1]' }", name("https://[::1]", address)),
        ("{ dns = 1 }", "endpoints.dns: expected a string, found `1`".to_owned()),
        ("{ dns = ['b.test:80'] }", "endpoints.dns: expected a string, found a list".to_owned()),
        (
            "{ resolver = '127.0.0.1' }",
            "endpoints.dns: missing; expected a name with a port, such as \"b.example:8080\""
                .to_owned(),
        ),
        ("{ dns = 'b.test:80', resolver = 'b.test' }", server("b.test")),
        ("{ dns = 'b.test:80', resolver = '127.0.0.1:0' }", server("127.0.0.1:0")),
        (
            "{ dns = 'b.test:80', weight = 2 }",
            "endpoints.weight: unknown key `weight`; expected one of dns, srv, resolver".to_owned(),
        ),
        (
            "{ dns = 'b.test:80', srv = 'b.test' }",
            "endpoints.srv: either `dns` or `srv`".to_owned(),
        ),
        (
            "{ srv = '_http._tcp.b.test:80' }",
            "endpoints.srv: expected `_service._proto.name` or `http[s]://…[/base]`, found \
             `_http._tcp.b.test:80`: the port is what its records say"
                .to_owned(),
        ),
        (
            "{ srv = '127.0.0.1' }",
            "endpoints.srv: expected `_service._proto.name` or `http[s]://…[/base]`, found \
             `127.0.0.1`: not a name"
                .to_owned(),
        ),
        (
            "[{ dns = 'b.test:80' }]",
            "endpoints[0].dns: unknown key `dns`; expected one of url, weight, tier".to_owned(),
        ),
    ] {
        let text = format!("[upstreams.b]\nendpoints = {endpoints}\n[[routes]]\nupstream = 'b'\n");
        let said = complaints(directory(&config(&text)).path());
        let expected = format!("fusebox.toml:4: upstreams.b.{expected}");
        assert_eq!(said.first(), Some(&expected), "{endpoints}");
    }
}

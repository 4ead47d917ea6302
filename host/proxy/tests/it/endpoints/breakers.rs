//! Circuit breakers with a circuit for each endpoint.

use super::*;

/// No endpoint is ejected, and turns are exact.
pub(super) const UPSTREAM: &str = "balance = 'round-robin'\nhealth = { consecutive = 0 }";

/// A breaker that opens at so many failures in a row, with more of its table.
fn breaker(failures: usize, more: &str) -> String {
    format!(
        "[policies.each]\nkind = 'circuit-breaker'\nscope = 'endpoint'\n\
         failure_threshold = {failures}\ndelay_jitter = 0\n{more}\n"
    )
}

/// It alone, as the policy of a route.
pub(super) fn only(failures: usize, more: &str) -> String {
    format!("policies = ['each']\n{}", breaker(failures, more))
}

/// The state of the circuit of each of these endpoints.
fn circuits<const N: usize>(proxy: &Proxy, endpoints: [&dyn ToString; N]) -> [String; N] {
    let state = proxy.state();
    let circuits = state["policies"]["each"]["endpoints"].as_array().expect("a list").clone();
    endpoints.map(|endpoint| {
        let circuit = circuits.iter().find(|it| it["endpoint"] == endpoint.to_string());
        circuit.map_or("none", |it| it["state"].as_str().expect("a word")).to_owned()
    })
}

fn failures(answers: &[u16]) -> usize {
    answers.iter().filter(|status| **status >= 500).count()
}

#[test]
fn an_ill_endpoint_of_three_is_passed_over_until_it_is_well() {
    let [ill, a, b] = [500, 200, 200].map(Moody::new);
    let proxy = before(&[&ill, &a, &b], UPSTREAM, &only(2, "delay = '1s'"));
    assert_eq!(failures(&ask(&proxy, 60)), 2);
    assert_eq!(ill.seen("/"), 2, "then nobody goes there");
    assert_eq!(circuits(&proxy, [&ill, &a, &b]), ["open", "closed", "closed"]);
    assert_eq!(states(&proxy), ["in", "in", "in"], "it is not ejected");
    let line = proxy.line("circuit breaker state changed from closed to open");
    assert_eq!(
        (&line["policy"], &line["upstream"], &line["endpoint"], &line["attempt"]),
        (&"each".into(), &"b".into(), &ill.to_string().into(), &1.into())
    );
    let state = |of: &Moody, state: &str| {
        format!(
            "fusebox_circuit_breaker_endpoint_state{{policy=\"each\",upstream=\"b\",\
             endpoint=\"{of}\",state=\"{state}\"}}"
        )
    };
    proxy.counts(&[
        (&state(&ill, "open"), 1.0),
        (&state(&a, "closed"), 1.0),
        (&state(&a, "open"), 0.0),
    ]);
    assert!(!proxy.series().keys().any(|it| it.starts_with("fusebox_circuit_breaker_state")));

    ill.answers(200);
    eventually("it is well again", || {
        assert_eq!(ask(&proxy, 3), [200; 3]);
        (circuits(&proxy, [&ill]) == ["closed"]).then_some(())
    });
    let line = proxy.line("circuit breaker state changed from open to half-open");
    assert_eq!(line["endpoint"], ill.to_string());
    let before = ill.seen("/");
    ask(&proxy, 30);
    assert_eq!(ill.seen("/"), before + 10, "it has its share");
}

#[test]
fn by_least_request_too_one_is_tried_when_its_time_has_come() {
    let [ill, well] = [500, 200].map(Moody::new);
    let upstream = "health = { consecutive = 0 }";
    let proxy = before(&[&ill, &well], upstream, &only(1, "delay = '100ms'"));
    eventually("it has failed", || {
        ask(&proxy, 1);
        (circuits(&proxy, [&ill]) == ["open"]).then_some(())
    });
    ill.answers(200);
    // Its failure counts as a second, which would keep it the dearest for half a minute.
    let begun = Instant::now();
    eventually("it is well again", || {
        ask(&proxy, 3);
        (circuits(&proxy, [&ill]) == ["closed"]).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let before = ill.seen("/");
    // How many it gets, how long each has taken decides.
    eventually("it is one of two again", || {
        ask(&proxy, 10);
        (ill.seen("/") > before).then_some(())
    });
}

#[test]
fn more_than_half_open_all_are_used_and_if_all_are_open_calls_are_rejected() {
    let [a, b, c] = [500, 500, 200].map(Moody::new);
    let proxy = before(&[&a, &b, &c], UPSTREAM, &only(1, "delay = '1h'\nmax_delay = '1h'"));
    assert_eq!(failures(&ask(&proxy, 3)), 2);
    assert_eq!(circuits(&proxy, [&a, &b, &c]), ["open", "open", "closed"]);
    assert_eq!(failures(&ask(&proxy, 30)), 20, "the last one must not bear the load of all");
    let line = proxy.line("All endpoints used: more than half are ejected, down or open");
    assert_eq!(
        (&line["policy"], &line["upstream"], &line["out"], &line["count"]),
        (&"each".into(), &"b".into(), &2.into(), &3.into())
    );
    assert_eq!((a.seen("/"), b.seen("/")), (11, 11));

    c.answers(500);
    eventually("it has failed", || {
        ask(&proxy, 3);
        (circuits(&proxy, [&c]) == ["open"]).then_some(())
    });
    let before = a.seen("/") + b.seen("/") + c.seen("/");
    let answer = proxy.ask(get("/", "rejected"));
    assert_eq!(answer.status(), 503);
    let retry_after: u64 = answer.header("retry-after").expect("one").parse().expect("seconds");
    assert!((3500..=3600 * 6 / 5).contains(&retry_after), "{retry_after}");
    let told = proxy.told("rejected");
    assert_eq!(told[0], "Call rejected: circuit breaker open", "{told:?}");
    assert_eq!(a.seen("/") + b.seen("/") + c.seen("/"), before, "nobody was asked");
}

#[test]
fn with_a_retry_around_it_no_call_fails() {
    let [ill, a, b] = [500, 200, 200].map(Moody::new);
    let again = "[policies.again]\nkind = 'retry'\ndelay = '1ms'\n";
    let route = format!("policies = ['again', 'each']\n{again}{}", breaker(1, "delay = '1h'"));
    let proxy = before(&[&ill, &a, &b], UPSTREAM, &route);
    assert_eq!(ask(&proxy, 60), [200; 60]);
    assert_eq!(ill.seen("/"), 1);
}

#[test]
fn an_upstream_with_one_endpoint_has_one_circuit_of_its_own() {
    let [one, other] = [500, 200].map(Moody::new);
    let text = format!(
        "workers = 1\n[[routes]]\npath = '/one'\nupstream = '{one}'\n\
         policies = ['each']\n[[routes]]\nupstream = '{other}'\n{}",
        only(1, "delay = '1h'")
    );
    let proxy = Proxy::before(&"", &text);
    let ask = |path| proxy.ask(get(path, "1")).status();
    assert_eq!([ask("/one"), ask("/one"), ask("/"), ask("/")], [500, 503, 200, 200]);
    assert_eq!(circuits(&proxy, [&one, &other]), ["open", "closed"]);
    assert_eq!(one.seen("/one"), 1);
}

#[test]
fn check_says_that_each_endpoint_is_by_itself_and_what_makes_no_sense() {
    let text = |more: &str| {
        config(&format!(
            "[upstreams.b]\nendpoints = ['http://b:1', 'http://b:2']\n\
             [[routes]]\nupstream = 'b'\n{}",
            only(5, more)
        ))
    };
    let explained = fusebox(directory(&text("")).path(), &["check", "--explain", "/"]).out;
    let words = "opens at 5 failures in a row, for 1m, each endpoint by itself";
    assert!(explained.contains(words), "{explained}");
    let Ran { code, error, .. } =
        fusebox(directory(&text("key = { client = true }")).path(), &["check"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("either a `key` or `scope = \"endpoint\"`"), "{error}");
}

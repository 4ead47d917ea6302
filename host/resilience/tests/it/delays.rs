//! Delays that a component decides: of a retry, and of a breaker that opens.

use fusebox_resilience::testing::Recorded;
use fusebox_resilience::{
    CircuitBreakerConfig, CircuitBreakerEvent, CircuitState, DelayDecision, ErrorKind, EventKind,
    NoRetry, PolicyConfig, ResponseBody, RetryConfig, RetryEvent, Upstream,
};

use crate::support::{
    Answers, FakeDelay, Rig, Surroundings, breaker_among, ms, problems, response, retry_among,
    timeout, version,
};

fn wait(milliseconds: u64) -> DelayDecision {
    DelayDecision::Wait { time: ms(milliseconds), by: version() }
}

fn give_up() -> DelayDecision {
    DelayDecision::GiveUp { by: version() }
}

/// The delays of the retries that were scheduled, and why others were not; each with whether the
/// component decided it.
fn told<U: Upstream>(rig: &Rig<U>) -> Vec<(Result<u64, NoRetry>, bool)> {
    let told = |Recorded { kind, decided_by, .. }| match kind {
        EventKind::Retry(RetryEvent::Scheduled { delay, .. }) => {
            Some((Ok(delay.as_millis() as u64), decided_by == Some(version())))
        }
        EventKind::Retry(RetryEvent::Skipped { reason }) => {
            Some((Err(reason), decided_by == Some(version())))
        }
        _ => None,
    };
    rig.recorder.recorded().into_iter().filter_map(told).collect()
}

// ===== retry =====

#[tokio::test(start_paused = true)]
async fn a_component_says_how_long_a_retry_waits_and_its_own_delay_does_not_grow_meanwhile() {
    let delay = FakeDelay::new(|_, count| match count {
        1 => wait(250),
        3 => wait(0),
        _ => DelayDecision::Own,
    });
    let parts = Surroundings::default().delayer("hint", &delay);
    let text = "delay = { component = \"hint\" }\nmax_retries = 4";
    let rig = Rig::new("503*9", [retry_among(text, &parts)]);
    rig.run().await;
    let expected = [(Ok(250), true), (Ok(100), false), (Ok(0), true), (Ok(200), false)];
    assert_eq!(told(&rig), expected);
    let own = [100, 100, 200, 200].into_iter().zip(1..);
    let seen = own.map(|(own, count)| format!("retry {count} for 503, own {own} ms"));
    assert_eq!(delay.seen(), seen.collect::<Vec<_>>(), "asked once for each retry");
}

#[tokio::test(start_paused = true)]
async fn its_own_delay_may_be_any_other() {
    for (own, expected) in [
        ("delay = { component = \"hint\", own = \"30ms\" }", 30),
        ("delay = { component = \"hint\" }\nbackoff = { delay = \"70ms\" }", 70),
        ("delay = { component = \"hint\" }\nrandom_delay = { min = \"9ms\", max = \"9ms\" }", 9),
    ] {
        let delay = FakeDelay::new(|_, _| DelayDecision::Own);
        let parts = Surroundings::default().delayer("hint", &delay);
        let rig = Rig::new("503", [retry_among(own, &parts)]);
        assert_eq!(rig.get().await, (2 + expected, Ok(200)), "{own}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_says_is_no_shorter_than_retry_after_and_no_longer_than_may_be_waited() {
    for (said, script, limits, expected) in [
        (wait(300), "503:ra=1", "", (Ok(1000), true)),
        (wait(3000), "503:ra=1", "", (Ok(3000), true)),
        (DelayDecision::Own, "503:ra=1", "", (Ok(1000), false)),
        (wait(10_000), "503", "", (Ok(10_000), true)),
        (wait(10_001), "503", "", (Err(NoRetry::Component), true)),
        (wait(501), "503", "max_retry_after = \"500ms\"", (Err(NoRetry::Component), true)),
        (wait(501), "503", "max_duration = \"500ms\"", (Err(NoRetry::Component), true)),
        (give_up(), "503", "", (Err(NoRetry::Component), true)),
        (give_up(), "503:ra=1", "", (Err(NoRetry::Component), true)),
        (wait(1), "503:ra=11", "", (Err(NoRetry::RetryAfter), false)),
    ] {
        // A function knows nothing of its surroundings: it says what the route is told to.
        thread_local!(static SAID: std::cell::RefCell<Option<DelayDecision>> =
            const { std::cell::RefCell::new(None) });
        SAID.set(Some(said.clone()));
        let delay =
            FakeDelay::new(|_, _| SAID.with_borrow(|said| said.clone().expect("it is set")));
        let parts = Surroundings::default().delayer("hint", &delay);
        let text = format!("delay = {{ component = \"hint\" }}\nmax_retries = 1\n{limits}");
        let rig = Rig::new(script, [retry_among(&text, &parts)]);
        rig.run().await;
        assert_eq!(told(&rig), [expected], "{said:?} {script} {limits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_past_the_deadline_is_not_begun() {
    let delay = FakeDelay::new(|seen, _| {
        assert_eq!(seen.remaining(), Some(ms(99)));
        wait(99)
    });
    let parts = Surroundings::default().delayer("hint", &delay);
    let retry = retry_among("delay = { component = \"hint\" }", &parts);
    let rig = Rig::new("503", [timeout(100), retry]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(told(&rig), [(Err(NoRetry::Deadline), true)]);
}

#[tokio::test(start_paused = true)]
async fn it_sees_the_beginning_of_the_body_and_is_not_asked_in_vain() {
    let delay = FakeDelay::peeking(64, |seen, _| {
        let body = seen.outcome.as_ref().expect("a response").body.peeked(64, 0, 64);
        wait(String::from_utf8(body).expect("text").parse().expect("a number"))
    });
    let parts = Surroundings::default().delayer("hint", &delay);
    let text = "delay = { component = \"hint\" }\nmax_retries = 1";
    let answers = || Answers(|_| Ok(response(503, &[], ResponseBody::full("40"))));
    let rig = Rig::around(answers(), [retry_among(text, &parts)]);
    assert_eq!(rig.get().await, (42, Ok(503)));
    assert_eq!(rig.request("POST", fusebox_resilience::RequestBody::empty()).await.1, Ok(503));
    assert_eq!(
        delay.seen().len(),
        1,
        "not when the last has failed, nor for what can't be repeated"
    );
}

// ===== circuit breaker =====

fn opened(rig: &Rig) -> Vec<(Option<u64>, bool)> {
    let opened = |Recorded { kind, decided_by, .. }| match kind {
        EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
            to: CircuitState::Open,
            delay,
            ..
        }) => Some((delay.map(|delay| delay.as_millis() as u64), decided_by == Some(version()))),
        _ => None,
    };
    rig.recorder.recorded().into_iter().filter_map(opened).collect()
}

const BREAKER: &str = "failure_threshold = 1\ndelay = { component = \"hint\", own = \"5s\" }\n\
    delay_factor = 2.0\nmax_delay = \"60s\"";

#[tokio::test(start_paused = true)]
async fn a_component_says_how_long_a_circuit_stays_open() {
    let delay = FakeDelay::new(|_, count| match count {
        1 => wait(700),
        2 => wait(90_000),
        3 => give_up(),
        _ => DelayDecision::Own,
    });
    let parts = Surroundings::default().delayer("hint", &delay);
    let breaker = breaker_among(BREAKER, &parts);
    let rig = Rig::new("503*9", [breaker.clone()]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.get_at(700).await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(rig.get_at(701).await, (702, Ok(503)), "it is tried again when the component said");
    assert_eq!(rig.get_at(60_701).await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(rig.get_at(60_702).await.1, Ok(503), "at most `max_delay` later");
    // It gives up, which a breaker can't, and then it knows nothing: twice the policy's own.
    let third = 60_703 + 20_000;
    assert_eq!(rig.get_at(third - 1).await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(rig.get_at(third).await.1, Ok(503));
    let expected =
        [(Some(700), true), (Some(60_000), true), (Some(20_000), false), (Some(40_000), false)];
    assert_eq!(opened(&rig), expected);
    let own = [5_000, 10_000, 20_000, 40_000].into_iter().zip(1..);
    let seen = own.map(|(own, count)| format!("breaker {count} for 503, own {own} ms"));
    assert_eq!(delay.seen(), seen.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_only_where_an_outcome_opens_the_circuit() {
    let delay = FakeDelay::new(|_, _| wait(1));
    let parts = Surroundings::default().delayer("hint", &delay);
    let breaker = breaker_among(&format!("{BREAKER}\nfailure_capacity = 2"), &parts);
    let rig = Rig::new("200,503", [breaker.clone()]);
    breaker.force(CircuitState::Open, &rig.recorder.observers());
    breaker.force(CircuitState::Closed, &rig.recorder.observers());
    rig.run().await;
    assert_eq!(delay.seen(), [""; 0], "not by hand, nor for a success");
    rig.run().await;
    assert_eq!(opened(&rig), [(Some(5_000), false), (Some(1), true)]);
}

#[tokio::test(start_paused = true)]
async fn of_retry_after_and_what_it_says_the_longer_holds() {
    let delay = FakeDelay::new(|_, _| wait(1500));
    let parts = Surroundings::default().delayer("hint", &delay);
    for (script, expected) in [("503:ra=1", 1500), ("503:ra=2", 2000)] {
        let breaker = breaker_among(&format!("{BREAKER}\nretry_after = true"), &parts);
        let rig = Rig::new(script, [breaker]);
        rig.run().await;
        assert_eq!(opened(&rig), [(Some(expected), true)], "{script}");
    }
}

// ===== configuration =====

#[test]
fn a_delay_is_a_time_or_a_component() {
    let parts =
        || Surroundings::default().delayer("hint", &FakeDelay::new(|_, _| DelayDecision::Own));
    let of_retry =
        |text: &str| problems(text, |config: RetryConfig| config.build("p".into(), &parts()));
    let of_breaker = |text: &str| {
        problems(text, |config: CircuitBreakerConfig| config.build("p".into(), &parts()))
    };
    for of in [&of_retry as &dyn Fn(&str) -> Vec<String>, &of_breaker] {
        assert_eq!(of("delay = { component = \"hint\" }"), [""; 0]);
        assert_eq!(of("delay = { component = \"hint\", own = \"1s\" }"), [""; 0]);
        assert_eq!(
            of("delay = { component = \"hnit\" }"),
            ["delay.component: no component `hnit`"]
        );
        for (text, expected) in [
            ("delay = 5", "expected a duration such as \"250ms\", or { component = \"NAME\" }"),
            ("delay = \"5\"", "expected a duration such as \"250ms\", found `5`"),
            ("delay = { own = \"1s\" }", "missing field `component`"),
            ("delay = { component = \"hint\", max = 1 }", "unknown field `max`"),
        ] {
            let said = of(text);
            assert!(said[0].contains(expected), "{text}: {said:?}");
        }
    }
    let both = "delay = { component = \"hint\", own = \"1s\" }\nbackoff = {}";
    assert_eq!(of_retry(both).len(), 1, "two delays of its own");
}

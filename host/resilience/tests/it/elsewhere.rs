//! What an endpoint asks for, where there are others: how long it wants to be left alone is nothing
//! to one that the call has not tried.

use std::sync::Arc;

use fusebox_resilience::testing::Script;
use fusebox_resilience::{
    EventKind, HedgeEvent, NoHedge, NoRetry, Policy, ResponseBody, RetryEvent,
};

use crate::support::{Answers, Rig, Several, hedge, response, retry};

/// Asks endpoints that play these scripts, one after the other.
fn rig<const N: usize>(scripts: [&str; N], policy: Arc<dyn Policy>) -> Rig<Several> {
    Rig::around(Several::playing(scripts), [policy])
}

/// The delays of the retries, in milliseconds, and why there was no further one.
fn retries(rig: &Rig<Several>) -> (Vec<u64>, Option<NoRetry>) {
    let (mut delays, mut reason) = (Vec::new(), None);
    for (_, event) in rig.events() {
        match event {
            EventKind::Retry(RetryEvent::Scheduled { delay, .. }) => {
                delays.push(delay.as_millis() as u64);
            }
            EventKind::Retry(RetryEvent::Skipped { reason: why }) => reason = Some(why),
            _ => {}
        }
    }
    (delays, reason)
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_endpoint_after_its_own_delay_and_back_only_when_asked_to() {
    let policy = retry("max_retries = 9\ndelay = \"3ms\"");
    let rig = rig(["503:ra=2,200", "503:ra=5", "503:ra=60"], policy);
    // 1 and 2 and 3, each a millisecond, with 3 between; the last of them asks for too much.
    assert_eq!(rig.get().await, (9, Ok(503)));
    assert_eq!(retries(&rig), (vec![3, 3], Some(NoRetry::RetryAfter)));

    let policy = retry("max_retries = 9\ndelay = \"3ms\"");
    let rig = self::rig(["503:ra=60,200", "503:ra=2"], policy);
    assert_eq!(rig.get().await, (2006, Ok(200)));
    assert_eq!(retries(&rig), (vec![3, 2000], None));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_the_call_or_by_a_429_holds_wherever_it_goes() {
    let policy = || retry("delay = \"3ms\"");
    let limited = rig(["429:ra=60", ""], policy());
    assert_eq!(limited.get().await, (1, Ok(429)));
    assert_eq!(retries(&limited), (vec![], Some(NoRetry::RetryAfter)));
    for (header, reason) in [
        (("x-should-retry", "false"), NoRetry::Upstream),
        (("grpc-retry-pushback-ms", "60000"), NoRetry::RetryAfter),
    ] {
        let answers = || Answers(move |_| Ok(response(503, &[header], ResponseBody::empty())));
        let rig = Rig::around(Several::of([answers(), answers()]), [policy()]);
        assert_eq!(rig.get().await, (1, Ok(503)), "{header:?}");
        let skipped = EventKind::Retry(RetryEvent::Skipped { reason });
        assert_eq!(rig.events(), [(1, skipped)], "{header:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_to_another_endpoint_too() {
    let elsewhere = rig(["503:ra=60", "200"], hedge("delay = \"1s\""));
    assert_eq!(elsewhere.get().await, (2, Ok(200)));
    for scripts in [["429:ra=60", "200"].as_slice(), &["503:ra=60"]] {
        let upstream = Several::of(scripts.iter().map(|it| Script::new(it)).collect::<Vec<_>>());
        let rig = Rig::around(upstream, [hedge("delay = \"1s\"")]);
        assert!(rig.get().await.1.is_ok_and(|status| status >= 400));
        let skipped = EventKind::Hedge(HedgeEvent::Skipped { reason: NoHedge::RetryAfter });
        assert_eq!(rig.events(), [(1, skipped)]);
    }
}

//! Waits of a retry over whatever upstreams, limits and delays: never earlier than was asked for,
//! never past the deadline.

use std::cell::{Cell, RefCell};

use fusebox_resilience::{Attempt, Call, ErrorKind, Outcome, ResponseBody, Scope, Upstream};
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::support::{Rig, ms, response, retry, timeout};

/// Fails with each of these after its time, asking for so long a wait if it asks.
struct Asking {
    steps: Vec<(u64, Option<u64>)>,
    begun: Cell<usize>,
    /// When each attempt that has ended began, when it ended, and what it asked for.
    attempts: RefCell<Vec<(Instant, Instant, Option<u64>)>>,
}

impl Upstream for Asking {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let number = attempt.number() as usize - 1;
            let (time, asks) = self.steps[number % self.steps.len()];
            let began = Instant::now();
            self.begun.set(self.begun.get() + 1);
            sleep(ms(time)).await;
            self.attempts.borrow_mut().push((began, Instant::now(), asks));
            let text = asks.map(|asks| asks.to_string());
            let headers: Vec<_> = text.iter().map(|text| ("retry-after-ms", &**text)).collect();
            attempt.finish(Ok(response(503, &headers, ResponseBody::empty())))
        })
    }
}

/// Runs a call, and looks at every wait.
async fn waits_are_right(
    steps: Vec<(u64, Option<u64>)>,
    limit: u64,
    max_duration: u64,
    config: String,
) -> Result<(), TestCaseError> {
    let config = format!("{config}\nmax_retries = 20\nmax_duration = \"{max_duration}ms\"");
    let upstream = Asking { steps, begun: Cell::default(), attempts: RefCell::default() };
    let rig = Rig::around(upstream, [timeout(limit), retry(&config)]);
    let start = Instant::now();
    let (ended, outcome) = rig.get().await;
    let attempts = rig.upstream.attempts.borrow();
    for pair in attempts.windows(2) {
        let [(_, ended, asks), (began, ..)] = *pair else { unreachable!("two") };
        prop_assert!(began - ended >= ms(asks.unwrap_or(0)), "too early");
        prop_assert!(began - start < ms(limit), "past the deadline");
    }
    prop_assert!(ended <= limit, "{ended} of {limit}");
    if let Some((_, last, _)) = attempts.last()
        && outcome.is_ok()
    {
        prop_assert_eq!(ms(ended), *last - start, "what there is goes out at once");
    }
    // A wait is never cut: only an attempt under way is.
    let under_way = rig.upstream.begun.get() - attempts.len();
    prop_assert_eq!(under_way, usize::from(outcome == Err(ErrorKind::Timeout)));
    Ok(())
}

proptest! {
    #[test]
    fn a_wait_is_never_too_short_and_never_ends_past_the_deadline(
        steps in prop::collection::vec(
            (1..50_u64, prop::option::of(prop_oneof![0..200_u64, 1_000..20_000_u64])),
            1..6,
        ),
        limit in 1..1_000_u64,
        max_duration in 1..1_000_u64,
        delay in 0..200_u64,
        jitter in prop::sample::select(vec!["\"full\"", "0", "0.5", "\"30ms\""]),
    ) {
        let config = format!("delay = \"{delay}ms\"\njitter = {jitter}");
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(waits_are_right(steps, limit, max_duration, config))?;
    }
}

//! Bugs that were found, each with its story.

use fusebox_resilience::{CircuitState, ErrorKind, EventKind, NoRetry, RequestBody, RetryEvent};

use crate::support::{Rig, Surroundings, breaker, budget, fallback, retry, retry_among, timeout};

/// A condition saw only `retries-exceeded`, so that a fallback for timeouts did not answer outside
/// a retry that gave up on timeouts. In failsafe-go errors wrap each other, and it does.
#[tokio::test(start_paused = true)]
async fn retries_exceeded_is_also_what_the_last_attempt_ended_with() {
    let answers = |failure| {
        fallback(&format!(
            "handle_if = {{ failure = [\"{failure}\"] }}\nrespond = {{ status = 200 }}"
        ))
    };
    for (failure, expected) in [
        ("timeout", Ok(200)),
        ("retries-exceeded", Ok(200)),
        ("connection-lost", Err(ErrorKind::RetriesExceeded)),
    ] {
        let gives_up = retry("max_retries = 0\nreturn_last_failure = false");
        let rig = Rig::new("hang", [answers(failure), gives_up, timeout(30)]);
        assert_eq!(rig.get().await, (30, expected), "{failure}");
    }
}

/// A spent budget replaced the upstream's response by an error of ours, although
/// `return_last_failure` promises the response; a breaker around the retry took the error for a
/// rejection and did not count the failure.
#[tokio::test(start_paused = true)]
async fn a_spent_budget_lets_the_last_response_out_and_a_breaker_outside_counts_it() {
    let spent = budget(0.1, 0);
    let parts = Surroundings::default().budget("spent", &spent);
    let outer = breaker("failure_threshold = 1");
    let rig = Rig::new("503:ra=5", [outer.clone(), retry_among("budget = \"spent\"", &parts)]);
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(
        (response.status.as_u16(), &response.headers.to_map()["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    assert_eq!(
        rig.events()[0],
        (1, EventKind::Retry(RetryEvent::Skipped { reason: NoRetry::Budget }))
    );
    assert_eq!(outer.status().state, CircuitState::Open);
}

/// `budget-exceeded` claimed that the request never reached the upstream, so that a retry outside
/// repeated a POST that may have been processed.
#[tokio::test(start_paused = true)]
async fn a_post_whose_retry_found_the_budget_spent_is_not_repeated_further_out() {
    let spent = budget(0.1, 0);
    let parts = Surroundings::default().budget("spent", &spent);
    let inner =
        retry_among("budget = \"spent\"\nmethods = [\"*\"]\nreturn_last_failure = false", &parts);
    let rig = Rig::new("503", [retry("handle_if = { failure = [\"any\"] }"), inner]);
    assert_eq!(
        rig.request("POST", RequestBody::empty()).await,
        (1, Err(ErrorKind::BudgetExceeded))
    );
    assert_eq!(rig.attempts(), [0]);
}

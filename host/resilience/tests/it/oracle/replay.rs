//! One scenario through the real pipeline. What the fixture leaves out means failsafe-go's default,
//! which is written out here, because ours differ.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::config::{ConfigDuration, Problem};
use fusebox_resilience::testing::{self, Arrived, NoParts, Recorded, Recorder, Script, read};
use fusebox_resilience::{
    BackoffConfig, BulkheadConfig, CallEvent, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerEvent, ConditionConfig, Error, ErrorKind, EventKind, FallbackConfig,
    FallbackEvent, HedgeConfig, HedgeEvent, HeldUntil, JitterConfig, Pipeline, Policy,
    PolicyConfig as _, RateLimiterConfig, RequestBody, RespondConfig, ResponseBody, RetryConfig,
    RetryEvent, Scope, StatusConfig, TimeoutConfig, TimeoutEvent,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

use super::scenario::{
    Attempt, AttemptEnd, Breaker, Builder, ClientRequest, ErrorName, Event, EventName, Fallback,
    Handle, Hedge, LimiterKind, Millis, Observed, RecordedPolicy, Request, Retry, Scenario,
};

/// No scenario takes a day: one that does not end is a difference like any other.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// What we do in this scenario.
///
/// # Errors
/// It cannot be played: its policies are no valid configuration, or it does not end.
pub(crate) async fn replay(scenario: &Scenario) -> Result<Observed, String> {
    let start = Instant::now();
    let recorder = Recorder::default();
    let script = Script::new(&scenario.upstream.script).rest(&scenario.upstream.rest);
    let mut policies = Vec::new();
    let mut breakers = Vec::new();
    for (index, policy) in scenario.policies.iter().enumerate() {
        policies.push(build(policy, &format!("policies[{index}]"), &mut breakers)?);
    }
    let pipeline = Pipeline::new(policies);
    let mut running: FuturesUnordered<_> = (scenario.client.iter().enumerate())
        .map(|(index, request)| send(index, request, start, &pipeline, &script, &recorder))
        .collect();
    let all = async {
        let mut requests = Vec::new();
        while let Some(request) = running.next().await {
            requests.push(request?);
        }
        Ok::<_, String>(requests)
    };
    let mut requests =
        timeout(PATIENCE, all).await.map_err(|_| "it does not end within a day")??;
    requests.sort_by_key(|request| request.request);
    let retries = scenario
        .policies
        .iter()
        .filter(|policy| matches!(policy, RecordedPolicy::Retry(_)))
        .count();
    Ok(Observed::new(
        requests,
        attempts(&script, &steps(scenario)),
        events(&recorder.recorded(), start, retries == 1),
        breakers.iter().map(|breaker| breaker.status().state.name().to_owned()).collect(),
    ))
}

async fn send(
    index: usize,
    request: &ClientRequest,
    start: Instant,
    pipeline: &Pipeline,
    script: &Script,
    recorder: &Recorder,
) -> Result<Request, String> {
    let at = start + Duration::from(request.at_ms);
    sleep_until(at).await;
    let method = request.method.as_deref().unwrap_or("GET");
    let builder = http::Request::builder().method(method).uri("http://service-b/");
    builder.method_ref().ok_or_else(|| format!("client[{index}]: `{method}` is no method"))?;
    let body = request.body.as_ref().map_or_else(RequestBody::empty, |body| {
        RequestBody::new(Box::pin(ResponseBody::full(body.clone())), 64 * 1024)
    });
    let call = testing::call_with(&index.to_string(), builder, body, recorder.observers());
    let (status, body, error_kinds) = match pipeline.execute(&call, &Scope::new(script)).await {
        Ok(response) => {
            let body = read(response.body)
                .await
                .map_err(|error| format!("client[{index}]: body: {error}"))?;
            (
                Some(response.status.as_u16()),
                String::from_utf8_lossy(&body).into_owned(),
                Vec::new(),
            )
        }
        Err(error) => (None, String::new(), error_kinds(&error)),
    };
    let arrivals = script.arrivals();
    Ok(Request {
        request: index,
        status,
        body,
        error: None,
        error_kinds,
        _handler_status: None,
        upstream_attempts: arrivals.iter().filter(|arrival| arrival.call == call.id()).count(),
        done_at: start.elapsed().into(),
        duration: at.elapsed().into(),
    })
}

/// The kinds that `errors.Is` would find: of the error itself and of all beneath it.
fn error_kinds(error: &Error) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let kind = cause.downcast_ref::<Error>().map(Error::kind);
        kinds.extend(match kind {
            Some(ErrorKind::Timeout) => Some("timeout"),
            Some(ErrorKind::CircuitOpen) => Some("breaker_open"),
            Some(ErrorKind::RetriesExceeded) => Some("retries_exceeded"),
            Some(ErrorKind::BulkheadFull) => Some("bulkhead_full"),
            Some(ErrorKind::RateLimited) => Some("rate_limited"),
            _ => None,
        });
        next = cause.source();
    }
    if kinds.is_empty() {
        kinds.push("transport");
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(str::to_owned).collect()
}

// ===== what was seen =====

/// The steps in the fixture's own words, one an attempt, and the one that follows for ever.
fn steps(scenario: &Scenario) -> (Vec<String>, String) {
    let items = scenario.upstream.script.split(',').filter(|item| !item.trim().is_empty());
    let steps = items.flat_map(|item| {
        let (step, times) = item.rsplit_once('*').unwrap_or((item, "1"));
        std::iter::repeat_n(step.trim().to_owned(), times.parse().unwrap_or(1))
    });
    (steps.collect(), scenario.upstream.rest.clone())
}

fn attempts(script: &Script, (steps, rest): &(Vec<String>, String)) -> Vec<Attempt> {
    let arrivals = script.arrivals();
    let attempt = |n: usize| {
        let arrival = &arrivals[n];
        let previous = arrivals[..n].iter().rev().find(|previous| previous.call == arrival.call);
        let previous_end = previous.and_then(|previous| previous.ended);
        Attempt {
            n,
            request: arrival.call.parse().expect("calls are named by their number"),
            step: steps.get(n).unwrap_or(rest).clone(),
            body_len: arrival.body.len(),
            outcome: match arrival.outcome {
                Arrived::Pending => AttemptEnd::Pending,
                Arrived::Responded => AttemptEnd::Responded,
                Arrived::Canceled => AttemptEnd::Canceled,
                Arrived::Closed => AttemptEnd::Closed,
            },
            at: arrival.at.into(),
            // After the end of the previous one: a hedge, which starts before it, has none.
            since_previous_end_of_same_request: previous_end
                .and_then(|end| arrival.at.checked_sub(end))
                .map(Millis::from),
        }
    };
    (0..arrivals.len()).map(attempt).collect()
}

/// `one_retry`: the scenario has one retry policy, whose own numbers are then the numbers of the
/// whole call.
fn events(recorded: &[Recorded], start: Instant, one_retry: bool) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for Recorded { at, call, kind, .. } in recorded {
        let request =
            call.as_ref().map(|call| call.parse().expect("calls are named by their number"));
        let (name, detail, delay) = match kind {
            EventKind::Retry(RetryEvent::Scheduled { retry, delay }) => {
                let earlier = events
                    .iter()
                    .filter(|event| {
                        event.kind == EventName::RetryScheduled && event.request == request
                    })
                    .count();
                let attempts = if one_retry { *retry as usize } else { earlier + 1 };
                (EventName::RetryScheduled, Some(format!("attempts={attempts}")), Some(*delay))
            }
            EventKind::Retry(RetryEvent::Exhausted { .. }) => {
                (EventName::RetriesExceeded, None, None)
            }
            EventKind::Retry(RetryEvent::Aborted) => (EventName::RetryAborted, None, None),
            EventKind::Retry(RetryEvent::Skipped { reason }) => {
                (EventName::RetrySkipped, Some(format!("{reason:?}")), None)
            }
            EventKind::Timeout(TimeoutEvent::Exceeded { .. }) => {
                (EventName::TimeoutExceeded, None, None)
            }
            EventKind::Fallback(FallbackEvent::Served { .. }) => (EventName::Fallback, None, None),
            EventKind::Fallback(FallbackEvent::Declined) => {
                (EventName::FallbackDeclined, None, None)
            }
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { from, to, .. }) => {
                (EventName::Breaker, Some(format!("{}->{}", from.name(), to.name())), None)
            }
            EventKind::Hedge(HedgeEvent::Launched { .. }) => (EventName::Hedge, None, None),
            // failsafe-go's hedge has no listener for the end of the race.
            EventKind::Hedge(HedgeEvent::Won { .. } | HedgeEvent::Cancelled { .. }) => continue,
            // failsafe-go's breaker has no listener for rejections.
            EventKind::Call(CallEvent::Rejected { kind: ErrorKind::CircuitOpen, .. }) => continue,
            EventKind::Call(CallEvent::Rejected { kind: ErrorKind::BulkheadFull, .. }) => {
                (EventName::BulkheadFull, None, None)
            }
            EventKind::Call(CallEvent::Rejected { kind: ErrorKind::RateLimited, .. }) => {
                (EventName::RateLimited, None, None)
            }
            // failsafe-go has no listeners for those that wait.
            EventKind::Queue(_) => continue,
            other => unreachable!("no policy of a scenario says {other:?}"),
        };
        let at = (*at - start).into();
        events.push(Event { kind: name, request, detail, delay_ms: delay.map(Millis::from), at });
    }
    events
}

// ===== policies =====

fn build(
    policy: &RecordedPolicy,
    name: &str,
    breakers: &mut Vec<Arc<CircuitBreaker>>,
) -> Result<Arc<dyn Policy>, String> {
    let key: Arc<str> = name.into();
    let wrong = |problems: Vec<Problem>| {
        let problems: Vec<_> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect();
        format!("{name}: {}", problems.join("; "))
    };
    Ok(match policy {
        RecordedPolicy::Retry(retry) => {
            Arc::new(retry_config(retry).build(key, &NoParts).map_err(wrong)?)
        }
        RecordedPolicy::Breaker(breaker) => {
            let breaker = Arc::new(breaker_config(breaker).build(key, &NoParts).map_err(wrong)?);
            breakers.push(breaker.clone());
            breaker
        }
        RecordedPolicy::Timeout(timeout) => {
            let limit = ConfigDuration(timeout.limit_ms.into());
            Arc::new(
                TimeoutConfig { limit, body_limit: None, min_rate: None }
                    .build(key, &NoParts)
                    .map_err(wrong)?,
            )
        }
        RecordedPolicy::Fallback(fallback) => {
            Arc::new(fallback_config(fallback).build(key, &NoParts).map_err(wrong)?)
        }
        RecordedPolicy::Bulkhead(bulkhead) => {
            let config = BulkheadConfig {
                max_concurrency: bulkhead.max_concurrency,
                max_wait: ConfigDuration(bulkhead.max_wait_ms.map_or(Duration::ZERO, Into::into)),
                max_queue: None,
                until: HeldUntil::Body,
                key: None,
                max_keys: None,
                idle: None,
            };
            Arc::new(config.build(key, &NoParts).map_err(wrong)?)
        }
        RecordedPolicy::Hedge(hedge) => {
            Arc::new(hedge_config(hedge).build(key, &NoParts).map_err(wrong)?)
        }
        RecordedPolicy::Ratelimiter(limiter) => {
            let wait = limiter.max_wait_ms.map_or(Duration::ZERO, Into::into);
            let config = RateLimiterConfig {
                limit: limiter.max_executions,
                per: ConfigDuration(limiter.period_ms.into()),
                burst: (limiter.kind == LimiterKind::Smooth).then_some(1),
                max_wait: ConfigDuration(wait),
                max_queue: None,
                headers: false,
                key: None,
                max_keys: None,
                idle: None,
            };
            Arc::new(config.build(key, &NoParts).map_err(wrong)?)
        }
    })
}

fn duration(millis: Option<Millis>) -> Option<ConfigDuration> {
    millis.map(|millis| ConfigDuration(millis.into()))
}

fn retry_config(retry: &Retry) -> RetryConfig {
    let http_builder = retry.builder == Some(Builder::Failsafehttp);
    let backoff = retry.backoff.as_ref().map(|backoff| BackoffConfig {
        delay: ConfigDuration(backoff.initial_ms.into()),
        max_delay: ConfigDuration(backoff.max_ms.into()),
        factor: backoff.factor.unwrap_or(2.0),
    });
    let mut handle_if = condition(retry.handle.as_ref());
    if http_builder {
        let own = ["429", "500", "502-599"].map(|status| StatusConfig(status.into()));
        handle_if.status.get_or_insert_default().extend(own);
        handle_if.failure = Some(vec!["any".into()]);
    }
    let abort_if = match &retry.abort {
        Some(abort) => condition(Some(abort)),
        None => {
            ConditionConfig { status: Some(vec![]), failure: Some(vec![]), ..Default::default() }
        }
    };
    RetryConfig {
        handle_if: Some(handle_if),
        abort_if: Some(abort_if),
        max_retries: retry.max_retries.unwrap_or(2),
        delay: duration(retry.delay_ms)
            .or_else(|| backoff.is_none().then_some(ConfigDuration::from_millis(0)))
            .map(Into::into),
        backoff,
        random_delay: None,
        jitter: Some(JitterConfig::Factor(0.0)),
        max_retry_after: ConfigDuration::from_secs(60),
        retry_after: retry.retry_after || http_builder,
        max_duration: duration(retry.max_duration_ms),
        return_last_failure: retry.return_last_failure,
        methods: vec!["*".into()],
        retry_retried: false,
        budget: Some("none".into()),
    }
}

fn breaker_config(breaker: &Breaker) -> CircuitBreakerConfig {
    CircuitBreakerConfig {
        handle_if: Some(condition(breaker.handle.as_ref())),
        ignore_if: None,
        failure_threshold: breaker
            .failure_threshold
            .or_else(|| breaker.failure_rate.is_none().then_some(1)),
        failure_capacity: breaker.failure_capacity,
        period: duration(breaker.period_ms),
        failure_rate: breaker.failure_rate,
        min_calls: breaker.execution_threshold,
        slow_call: None,
        success_threshold: breaker.success_threshold,
        success_capacity: breaker.success_capacity,
        delay: duration(breaker.delay_ms).map(Into::into),
        delay_jitter: 0.0,
        retry_after: breaker.retry_after,
        ..Default::default()
    }
}

fn fallback_config(fallback: &Fallback) -> FallbackConfig {
    FallbackConfig {
        handle_if: Some(condition(fallback.handle.as_ref())),
        respond: RespondConfig {
            component: None,
            upstream: None,
            status: Some(fallback.status.unwrap_or(200).into()),
            headers: None,
            body: fallback.body.clone(),
        },
    }
}

/// failsafe-go knows only what ends the race: that is our `cancel_if`, and all else fails. Without
/// it any result ends it, so nothing fails.
fn hedge_config(hedge: &Hedge) -> HedgeConfig {
    let nothing =
        ConditionConfig { status: Some(vec![]), failure: Some(vec![]), ..Default::default() };
    let everything = ConditionConfig {
        status: Some(vec![StatusConfig("100-599".into())]),
        failure: Some(vec!["any".into()]),
        ..Default::default()
    };
    HedgeConfig {
        handle_if: Some(if hedge.handle.is_some() { everything } else { nothing }),
        cancel_if: hedge.handle.as_ref().map(|handle| condition(Some(handle))),
        delay: duration(Some(hedge.delay_ms)),
        delay_quantile: None,
        max_hedges: hedge.max_hedges.unwrap_or(1),
        methods: vec!["*".into()],
        budget: Some("none".into()),
    }
}

/// Without one, failsafe-go handles any error and no status; with one, what it does not name is not
/// handled.
fn condition(handle: Option<&Handle>) -> ConditionConfig {
    let Some(handle) = handle.filter(|handle| **handle != Handle::default()) else {
        return ConditionConfig {
            status: Some(vec![]),
            failure: Some(vec!["any".into()]),
            ..Default::default()
        };
    };
    let status = |status: &dyn Display| StatusConfig(status.to_string());
    let mut statuses: Vec<_> = handle.status.iter().map(|code| status(code)).collect();
    statuses.extend(handle.status_min.map(|least| status(&format!("{least}-599"))));
    let failures = handle.errors.iter().map(|error| {
        let name = match error {
            ErrorName::Any => "any",
            ErrorName::Timeout => "timeout",
            ErrorName::BreakerOpen => "circuit-open",
            ErrorName::RetriesExceeded => "retries-exceeded",
            ErrorName::BulkheadFull => "bulkhead-full",
            ErrorName::RateLimited => "rate-limited",
        };
        name.to_owned()
    });
    ConditionConfig {
        status: Some(statuses),
        failure: Some(failures.collect()),
        ..Default::default()
    }
}

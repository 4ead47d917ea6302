//! The fixture's schema. Whatever it does not know is an error, so that no scenario is replayed by
//! half.

use std::time::Duration;

use fusebox_resilience::testing::{Step, Steps};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// A whole fixture; what it says about its own making is not looked at.
#[derive(Deserialize)]
struct File {
    virtual_clock: bool,
    scenarios: Vec<Value>,
}

/// Policies around one upstream, requests to it, and what failsafe-go made of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) id: String,
    #[serde(rename = "covers")]
    _covers: Vec<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    pub(crate) policies: Vec<RecordedPolicy>,
    pub(crate) upstream: UpstreamConfig,
    pub(crate) client: Vec<ClientRequest>,
    pub(crate) observed: Observed,
    /// Why we behave otherwise on purpose.
    pub(crate) deviation: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamConfig {
    pub(crate) script: String,
    pub(crate) rest: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientRequest {
    pub(crate) at_ms: Millis,
    pub(crate) method: Option<String>,
    pub(crate) body: Option<String>,
}

/// What counts as a failure; several are alternatives.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Handle {
    pub(crate) status: Vec<u16>,
    pub(crate) status_min: Option<u16>,
    pub(crate) errors: Vec<ErrorName>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorName {
    Any,
    Timeout,
    BreakerOpen,
    RetriesExceeded,
    BulkheadFull,
    RateLimited,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum RecordedPolicy {
    Retry(Retry),
    Breaker(Breaker),
    Timeout(Timeout),
    Fallback(Fallback),
    Hedge(Hedge),
    Bulkhead(Bulkhead),
    Ratelimiter(Ratelimiter),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) handle: Option<Handle>,
    pub(crate) abort: Option<Handle>,
    pub(crate) max_retries: Option<i64>,
    pub(crate) delay_ms: Option<Millis>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) max_duration_ms: Option<Millis>,
    #[serde(default)]
    pub(crate) retry_after: bool,
    #[serde(default)]
    pub(crate) return_last_failure: bool,
    pub(crate) builder: Option<Builder>,
}

/// A constructor of failsafe-go's HTTP package, with the conditions that it brings.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Builder {
    Failsafehttp,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backoff {
    pub(crate) initial_ms: Millis,
    pub(crate) max_ms: Millis,
    pub(crate) factor: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Breaker {
    pub(crate) handle: Option<Handle>,
    pub(crate) failure_threshold: Option<usize>,
    pub(crate) failure_capacity: Option<usize>,
    pub(crate) failure_rate: Option<f64>,
    pub(crate) execution_threshold: Option<usize>,
    pub(crate) period_ms: Option<Millis>,
    pub(crate) success_threshold: Option<usize>,
    pub(crate) success_capacity: Option<usize>,
    pub(crate) delay_ms: Option<Millis>,
    #[serde(default)]
    pub(crate) retry_after: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeout {
    pub(crate) limit_ms: Millis,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallback {
    pub(crate) handle: Option<Handle>,
    pub(crate) status: Option<u16>,
    pub(crate) body: Option<String>,
    /// One response object for the process, which ours never is.
    #[serde(default, rename = "shared_response")]
    _shared_response: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hedge {
    /// What ends the race; without it any result does.
    pub(crate) handle: Option<Handle>,
    pub(crate) delay_ms: Millis,
    pub(crate) max_hedges: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulkhead {
    pub(crate) max_concurrency: usize,
    pub(crate) max_wait_ms: Option<Millis>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ratelimiter {
    pub(crate) kind: LimiterKind,
    pub(crate) max_executions: u32,
    pub(crate) period_ms: Millis,
    pub(crate) max_wait_ms: Option<Millis>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimiterKind {
    Smooth,
    Bursty,
}

/// What happened, in the fixture's words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Observed {
    pub(crate) requests: Vec<Request>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) events: Vec<Event>,
    /// Of each breaker, outermost first.
    #[serde(default)]
    pub(crate) breaker_final_state: Vec<String>,
    #[serde(rename = "runs")]
    _runs: Option<u32>,
    #[serde(default = "yes")]
    pub(crate) stable: bool,
}

fn yes() -> bool {
    true
}

impl Observed {
    pub(crate) fn new(
        requests: Vec<Request>,
        attempts: Vec<Attempt>,
        events: Vec<Event>,
        states: Vec<String>,
    ) -> Self {
        Self { requests, attempts, events, breaker_final_state: states, _runs: None, stable: true }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) request: usize,
    pub(crate) status: Option<u16>,
    pub(crate) body: String,
    /// The library's text, which ours need not repeat.
    #[serde(skip_serializing)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) error_kinds: Vec<String>,
    /// The library's table of statuses, which is not ours.
    #[serde(default, rename = "handler_status", skip_serializing)]
    pub(crate) _handler_status: Option<u16>,
    pub(crate) upstream_attempts: usize,
    pub(crate) done_at: Millis,
    pub(crate) duration: Millis,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempt {
    pub(crate) n: usize,
    pub(crate) request: usize,
    pub(crate) step: String,
    #[serde(default)]
    pub(crate) body_len: usize,
    pub(crate) outcome: AttemptEnd,
    pub(crate) at: Millis,
    pub(crate) since_previous_end_of_same_request: Option<Millis>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AttemptEnd {
    Responded,
    Canceled,
    Closed,
    /// Only ever ours: still under way when everything was over.
    Pending,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) kind: EventName,
    pub(crate) request: Option<usize>,
    pub(crate) detail: Option<String>,
    pub(crate) delay_ms: Option<Millis>,
    pub(crate) at: Millis,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventName {
    RetryScheduled,
    RetriesExceeded,
    RetryAborted,
    /// Only ever ours.
    RetrySkipped,
    Breaker,
    TimeoutExceeded,
    Fallback,
    /// Only ever ours.
    FallbackDeclined,
    Hedge,
    BulkheadFull,
    RateLimited,
}

/// A time or a duration in milliseconds, to the microsecond.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, PartialOrd)]
#[serde(from = "f64")]
pub(crate) struct Millis(pub(crate) f64);

impl From<f64> for Millis {
    fn from(millis: f64) -> Self {
        Self((millis * 1000.0).round() / 1000.0)
    }
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self::from(duration.as_secs_f64() * 1000.0)
    }
}

impl From<Millis> for Duration {
    fn from(Millis(millis): Millis) -> Self {
        Duration::from_nanos((millis * 1e6).round() as u64)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// The scenarios of a fixture.
///
/// # Errors
/// One line for each that cannot be read.
pub(crate) fn read(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
    let file: File =
        serde_json::from_str(text).map_err(|error| vec![format!("not a fixture: {error}")])?;
    if !file.virtual_clock {
        return Err(vec!["not a fixture: its times are not of a virtual clock".into()]);
    }
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut problems = Vec::new();
    for (index, value) in file.scenarios.into_iter().enumerate() {
        let id = value["id"].as_str().map_or_else(|| format!("number {index}"), str::to_owned);
        match scenario(value) {
            Ok(scenario) if scenarios.iter().any(|other| other.id == scenario.id) => {
                problems.push(format!("scenario {id}: the id is taken"));
            }
            Ok(scenario) => scenarios.push(scenario),
            Err(problem) => problems.push(format!("scenario {id}: {problem}")),
        }
    }
    if scenarios.is_empty() && problems.is_empty() {
        problems.push("not a fixture: no scenarios".into());
    }
    if problems.is_empty() { Ok(scenarios) } else { Err(problems) }
}

fn scenario(value: Value) -> Result<Scenario, String> {
    let scenario: Scenario = serde_json::from_value(value).map_err(|error| error.to_string())?;
    scenario
        .upstream
        .script
        .parse::<Steps>()
        .map_err(|error| format!("upstream.script: {error}"))?;
    scenario.upstream.rest.parse::<Step>().map_err(|error| format!("upstream.rest: {error}"))?;
    if scenario.client.is_empty() {
        return Err("no client requests".into());
    }
    if scenario.client.iter().any(|request| request.at_ms.0 < 0.0) {
        return Err("a request before the start".into());
    }
    if !scenario.observed.stable {
        return Err("what was observed is not stable, so nothing can be held against it".into());
    }
    for request in &scenario.observed.requests {
        if request.error.is_some() == request.error_kinds.is_empty() {
            return Err(format!(
                "request {}: `error` and `error_kinds` go together",
                request.request
            ));
        }
    }
    Ok(scenario)
}

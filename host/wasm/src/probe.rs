//! Trial calls of a version: an instance is started, and asked what policies will ask, or have
//! asked.
//!
//! A standard HTTP component gets a fresh instance for each request, as later in service, and can't
//! reach other hosts.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use fusebox_resilience::{
    Call, Error, ErrorKind, Exchange, Outcome, Request, RequestBody, Response, ResponseBody, Slot,
    Worker,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::cases::compare::CaseAnswer;
use crate::cases::run::{ask, ask_in_time};
use crate::fault::GuestFailure;
use crate::http::{start, try_handle};
use crate::instance::Instance;
use crate::life::Checked;
use crate::overtaken::LOOK;
use crate::question::{Asks, GuestQuestion};
use crate::shortage::Shortage;
use crate::version::Version;

/// The route and the policy that a guest sees in a probe call.
const PROBE: &str = "probe";

/// The least time limit of first calls. No request waits for them, and a busy machine, or a guest
/// that initialises itself on its first call, must not fail a good component.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Starts an instance, and asks it about a success, a 503 and a timeout if its configuration wants
/// that: each twice, first with patience, then within its `timeout`. Returns what the guest
/// printed.
///
/// # Errors
/// It does not start, or does not answer. Any answer is accepted.
pub(crate) fn try_out(version: &Arc<Version>) -> anyhow::Result<Vec<String>> {
    let mut printed = Vec::new();
    if version.exports().are_any() {
        printed.extend(try_questions(version)?);
    }
    if version.handler().is_some() {
        let trial = || until_overtaken(version, try_requests(version));
        printed.extend(on_a_runtime(trial).context("a runtime for the trial")??);
    }
    Ok(printed)
}

fn try_questions(version: &Arc<Version>) -> anyhow::Result<Vec<String>> {
    let timeout = version.config().timeout.0;
    let patience = timeout.max(PATIENCE);
    let mut instance = Instance::start(version, patience).map_err(not_started)?;
    let mut printed = instance.printed();
    if !version.config().probe {
        return Ok(printed);
    }
    let own = Duration::from_millis(100);
    let mut asked = vec![("key", "a request", Asks::Key)];
    let outcomes = outcomes();
    for (what, outcome) in &outcomes {
        asked.extend([
            ("handle-if", *what, Asks::Condition(Slot::HandleIf, outcome)),
            ("respond", *what, Asks::Response(outcome)),
            ("after", *what, Asks::Delay { outcome, own, count: 1 }),
        ]);
    }
    for (function, what, asks) in asked {
        for limit in [patience, timeout] {
            let call = call();
            let seen = GuestQuestion { call: &call, policy: call.route(), asks, deadline: None };
            // It skips what is not exported.
            ask(&mut instance, &seen, limit)
                .map_err(|failure| not_answered(function, what, failure))?;
            printed.extend(instance.printed());
        }
    }
    Ok(printed)
}

/// The result of a trial, unless the version is overtaken meanwhile: a guest that waits does not
/// notice.
async fn until_overtaken<T>(
    version: &Version,
    trial: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let overtaken = async {
        while !version.overtaken().is_set() {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        tried = trial => tried,
        () = overtaken => bail!("is overtaken"),
    }
}

async fn try_requests(version: &Arc<Version>) -> anyhow::Result<Vec<String>> {
    let config = version.config();
    let patience = (config.timeout.0.max(PATIENCE), config.response_timeout.0.max(PATIENCE));
    let mut printed = start(version, patience.0).await.map_err(not_started)?;
    if !config.probe {
        return Ok(printed);
    }
    for (what, outcome) in outcomes() {
        for (processor_time, time) in [patience, (config.timeout.0, config.response_timeout.0)] {
            let call = call();
            let seen = Exchange::of(&call, &outcome, call.route(), Slot::Respond);
            let tried = try_handle(version, &seen, processor_time, time).await;
            let tried = tried.map_err(|failure| not_answered("incoming-handler", what, failure))?;
            printed.extend(tried.unwrap_or_default());
        }
    }
    Ok(printed)
}

/// What a version makes of an exchange that another one has faulted on, within its usual limits.
pub(crate) fn put(seen: &GuestQuestion<'_>, version: &Arc<Version>) -> Checked {
    let config = version.config();
    let failure = if let (Asks::Response(outcome), Some(_)) = (seen.asks, version.handler()) {
        let seen =
            Exchange::of(seen.call, outcome, seen.policy, Slot::Respond).until(seen.deadline);
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
            return Checked::Skipped;
        };
        let (processor_time, time) = (config.timeout.0, config.response_timeout.0);
        match runtime.block_on(try_handle(version, &seen, processor_time, time)) {
            Ok(Some(_)) => return Checked::Answers,
            Ok(None) => return Checked::Skipped,
            Err(failure) => failure,
        }
    } else {
        let asked = Instance::start(version, config.timeout.0).and_then(|mut instance| {
            // The first call may include one-time initialisation.
            ask_in_time(&mut instance, config.timeout.0 * 2, |instance, limit| {
                ask(instance, seen, limit)
            })
        });
        match asked {
            Ok(CaseAnswer::Missing(_)) => return Checked::Impossible,
            Ok(_) => return Checked::Answers,
            Err(failure) => failure,
        }
    };
    if failure.fault.is_own() { Checked::Faults } else { Checked::Skipped }
}

fn not_started(failure: GuestFailure) -> anyhow::Error {
    refusal(failure, "can't be instantiated".to_owned())
}

fn not_answered(function: &str, what: &str, failure: GuestFailure) -> anyhow::Error {
    refusal(failure, format!("fails when `{function}` is called for a trial, about {what}"))
}

fn refusal(failure: GuestFailure, what: String) -> anyhow::Error {
    let reason = format!("{what}: {}", failure.detail);
    // Others may hold what it was refused.
    if failure.fault.is_own() { anyhow!(reason) } else { Shortage(reason).into() }
}

/// On its own thread, because the caller's may be inside another runtime.
fn on_a_runtime<R: Send, F: Future<Output = R>>(trial: impl FnOnce() -> F + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let trial =
            thread::Builder::new().name("fusebox-trial".into()).spawn_scoped(scope, || {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(trial()))
            })?;
        trial.join().map_err(|_| io::Error::other("the trial panicked"))?
    })
}

fn outcomes() -> [(&'static str, Outcome); 3] {
    let response = |status, body: &'static str| {
        let headers = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]);
        Ok(Response::new(status, headers, ResponseBody::full(body)))
    };
    [
        ("a 200", response(StatusCode::OK, "{}")),
        ("a 503", response(StatusCode::SERVICE_UNAVAILABLE, "{}")),
        ("a timeout", Err(Error::new(ErrorKind::Timeout))),
    ]
}

fn call() -> Call {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.headers.insert(header::HOST, HeaderValue::from_static(PROBE));
    let id = HeaderValue::from_static(PROBE);
    let request = Request::new(id, PROBE.into(), head, SystemTime::UNIX_EPOCH);
    Call::new(request, RequestBody::empty(), Worker::unobserved().into())
}

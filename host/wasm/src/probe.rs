//! Trial calls of a new version: an instance is started, and asked what policies will ask.
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

use crate::cases::run::ask;
use crate::fault::GuestFailure;
use crate::http::{start, try_handle};
use crate::instance::Instance;
use crate::overtaken::LOOK;
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
    for (what, outcome) in outcomes() {
        for slot in [Slot::HandleIf, Slot::Respond] {
            for limit in [patience, timeout] {
                let call = call();
                let seen = Exchange::of(&call, &outcome, PROBE, slot);
                // `ask` skips what it does not export.
                ask(&mut instance, &seen, limit).map_err(|failure| {
                    let function = if slot == Slot::Respond { "respond" } else { "handle-if" };
                    anyhow!(
                        "fails when `{function}` is called for a trial, about {what}: {}",
                        failure.detail
                    )
                })?;
                printed.extend(instance.printed());
            }
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
            let seen = Exchange::of(&call, &outcome, PROBE, Slot::Respond);
            let tried = try_handle(version, &seen, processor_time, time).await;
            printed.extend(tried.map_err(|failure| {
                anyhow!(
                    "fails when `incoming-handler` is called for a trial, about {what}: {}",
                    failure.detail
                )
            })?);
        }
    }
    Ok(printed)
}

fn not_started(failure: GuestFailure) -> anyhow::Error {
    anyhow!("can't be instantiated: {}", failure.detail)
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

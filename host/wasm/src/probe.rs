//! Trying a version out before anybody depends on it: an instance is started, and asked what policies will ask it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use fusebox_resilience::{
    Call, Error, ErrorKind, Exchange, Observers, Outcome, RequestBody, Response, ResponseBody, Slot,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::attempt;
use crate::component::Version;
use crate::fault::Failure;
use crate::instances::Instance;

/// The route and the policy that a guest sees in a probe call.
const PROBE: &str = "probe";

/// Nobody waits for it yet, so what is done for the first time gets so long at least: a machine that is busy loading, or a
/// guest that sets itself up on its first call, must not make a good component look bad.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Starts an instance, and asks it about a success, a 503 and a timeout if its configuration wants that: each twice, first
/// with patience, then within its `timeout`. Returns what the guest printed.
///
/// # Errors
/// It does not start, or fails to answer. What it answers does not matter.
pub(crate) fn try_out(version: &Arc<Version>) -> anyhow::Result<Vec<String>> {
    let timeout = version.config().timeout.0;
    let patience = timeout.max(PATIENCE);
    let mut instance =
        Instance::start(version, patience).map_err(|failure| anyhow!("can't be instantiated: {}", failure.detail))?;
    let mut printed = instance.printed();
    if !version.config().probe {
        return Ok(printed);
    }
    for (what, outcome) in outcomes() {
        for slot in [Slot::HandleIf, Slot::Respond] {
            for limit in [patience, timeout] {
                ask(&mut instance, slot, &outcome, limit).map_err(|failure| {
                    let function = if slot == Slot::Respond { "respond" } else { "handle-if" };
                    anyhow!("fails when `{function}` is called for a trial, about {what}: {}", failure.detail)
                })?;
                printed.extend(instance.printed());
            }
        }
    }
    Ok(printed)
}

fn outcomes() -> [(&'static str, Outcome); 3] {
    let response = |status, body: &'static str| {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Ok(Response::new(status, headers, ResponseBody::full(body)))
    };
    [
        ("a 200", response(StatusCode::OK, "{}")),
        ("a 503", response(StatusCode::SERVICE_UNAVAILABLE, "{}")),
        ("a timeout", Err(Error::new(ErrorKind::Timeout))),
    ]
}

/// Nothing if it does not answer this kind of question.
fn ask(instance: &mut Instance, slot: Slot, outcome: &Outcome, limit: Duration) -> Result<(), Failure> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.headers.insert(header::HOST, HeaderValue::from_static(PROBE));
    let call = Call::new(PROBE, PROBE.into(), head, RequestBody::empty(), SystemTime::UNIX_EPOCH, Observers::default());
    let seen = Exchange::of(&call, outcome, PROBE, slot);
    let version = instance.version().clone();
    let exports = version.exports();
    let asked = attempt::outcome(&seen);
    attempt::lend(&seen, || match slot {
        Slot::Respond if exports.has_fallback() => instance.call_within(limit, |guest, store| {
            let answer = guest.fallback().call_respond(&mut *store, asked)?;
            answer.map(|answer| attempt::into_response(answer, store.data().console())).transpose()?;
            Ok(())
        }),
        Slot::HandleIf if exports.has_predicate() => {
            instance.call_within(limit, |guest, store| guest.predicate().call_handle_if(store, asked).map(drop))
        }
        _ => Ok(()),
    })
}

//! Asks a component what its cases ask.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fusebox_resilience::{Exchange, Slot};

use super::asked::AskedCase;
use super::case::ComponentCase;
use super::compare::{CaseAnswer, CaseReport};
use crate::fault::GuestFailure;
use crate::instance::Instance;
use crate::thread_time::thread_time;
use crate::version::Version;
use crate::{attempt, convert};

/// Asks all of them, each call within `limit` or the component's own timeout if that is longer.
///
/// # Errors
/// An instance does not start, or a case can't be asked.
pub(crate) fn run_all(
    version: &Arc<Version>,
    cases: &[ComponentCase],
    limit: Duration,
) -> Result<Vec<CaseReport>> {
    let limit = limit.max(version.config().timeout.0);
    let mut kept = None;
    let ask = |case: &ComponentCase| {
        ensure!(!version.overtaken().is_set(), "is overtaken");
        let place = || format!("`{}`", case.name);
        let other = case
            .settings
            .as_ref()
            .map(|settings| version.with_settings(settings))
            .transpose()?
            .map(Arc::new);
        let started = match (other.as_ref(), kept.take()) {
            (Some(other), instance) => {
                kept = instance;
                Instance::start(other, limit)
            }
            (None, Some(instance)) => Ok(instance),
            (None, None) => Instance::start(version, limit),
        };
        let (answer, printed) = match started {
            Ok(mut instance) => {
                let asked = AskedCase::of(case).with_context(place)?;
                let answer = ask_in_time(&mut instance, limit, |instance, limit| {
                    ask_case(&asked, instance, limit)
                });
                match answer {
                    Ok(answer) => {
                        let printed = instance.printed();
                        if other.is_none() {
                            kept = Some(instance).filter(Instance::is_reusable);
                        }
                        (answer, printed)
                    }
                    Err(failure) => CaseAnswer::of(failure),
                }
            }
            Err(failure) => CaseAnswer::of(failure),
        };
        let differences = case.expect.differences(&answer);
        Ok(CaseReport { name: case.name.clone(), line: case.line, differences, printed })
    };
    cases.iter().map(ask).collect()
}

/// Asks an instance what a case asks.
///
/// # Errors
/// The call failed; the instance must not be used again.
pub(crate) fn ask_case(
    case: &AskedCase,
    instance: &mut Instance,
    limit: Duration,
) -> Result<CaseAnswer, GuestFailure> {
    let has_predicate = instance.version().exports().has_predicate();
    case.show(has_predicate, |seen| ask(instance, seen, limit))
}

/// Asks with this patience, but repeats a slow call within the component's own timeout: the first
/// call may include one-time initialisation. Slow in processor time: whether a guest is asked
/// twice, and may then answer otherwise, must not depend on how busy the machine is.
pub(crate) fn ask_in_time(
    instance: &mut Instance,
    patience: Duration,
    ask: impl Fn(&mut Instance, Duration) -> Result<CaseAnswer, GuestFailure>,
) -> Result<CaseAnswer, GuestFailure> {
    let timeout = instance.version().config().timeout.0;
    let began = thread_time();
    let answer = ask(instance, patience)?;
    let is_slow = thread_time().saturating_sub(began) > timeout;
    if is_slow { ask(instance, timeout) } else { Ok(answer) }
}

/// Asks an instance what the slot of `seen` asks for.
///
/// # Errors
/// The call failed; the instance must not be used again.
pub(crate) fn ask(
    instance: &mut Instance,
    seen: &Exchange<'_>,
    limit: Duration,
) -> Result<CaseAnswer, GuestFailure> {
    let outcome = convert::outcome(seen);
    let exports = instance.version().exports();
    match seen.slot {
        Slot::Respond if !exports.has_fallback() => return Ok(CaseAnswer::Missing("fallback")),
        Slot::Respond => {}
        _ if !exports.has_predicate() => return Ok(CaseAnswer::Missing("predicate")),
        _ => {}
    }
    attempt::lend(seen, || {
        if seen.slot != Slot::Respond {
            let asked = instance.call_within(limit, |guest, store| {
                guest.predicate().call_handle_if(store, outcome)
            });
            return asked.map(CaseAnswer::Handled);
        }
        let answer = instance.call_within(limit, |guest, store| {
            let answer = guest.fallback().call_respond(&mut *store, outcome)?;
            Ok(answer
                .map(|answer| convert::into_response(answer, store.data().console()))
                .transpose()?)
        })?;
        Ok(answer.map_or(CaseAnswer::Declined, |answer| CaseAnswer::Response(answer.into())))
    })
}

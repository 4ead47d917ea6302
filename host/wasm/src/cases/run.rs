//! Asks a component what its cases ask.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::asked::AskedCase;
use super::case::ComponentCase;
use super::compare::{CaseAnswer, CaseReport};
use crate::contract::ContractExport;
use crate::fault::GuestFailure;
use crate::instance::Instance;
use crate::question::{Asks, GuestQuestion};
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
    let version = instance.version().clone();
    case.show(|export| version.exports().has(export), |seen| ask(instance, seen, limit))
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

/// Asks an instance.
///
/// # Errors
/// The call failed; the instance must not be used again.
pub(crate) fn ask(
    instance: &mut Instance,
    seen: &GuestQuestion<'_>,
    limit: Duration,
) -> Result<CaseAnswer, GuestFailure> {
    let export = ContractExport::of(seen.slot());
    if !instance.version().exports().has(export) {
        return Ok(CaseAnswer::Missing(export));
    }
    attempt::lend(seen, || match seen.asks {
        Asks::Condition(_, outcome) => {
            let outcome = convert::outcome(outcome);
            let asked = instance.call_within(limit, |guest, store| {
                guest.predicate().call_handle_if(store, outcome)
            });
            asked.map(CaseAnswer::Handled)
        }
        Asks::Response(outcome) => {
            let outcome = convert::outcome(outcome);
            let answer = instance.call_within(limit, |guest, store| {
                let answer = guest.fallback().call_respond(&mut *store, outcome)?;
                Ok(answer
                    .map(|answer| convert::into_response(answer, store.data().console()))
                    .transpose()?)
            })?;
            Ok(answer.map_or(CaseAnswer::Declined, |answer| CaseAnswer::Response(answer.into())))
        }
        Asks::Delay { outcome, own, count } => {
            let (outcome, own) = (convert::outcome(outcome), convert::millis(own));
            let asked = instance.call_within(limit, |guest, store| {
                guest.delay().call_after(store, outcome, own, count)
            });
            asked.map(|decision| CaseAnswer::Delay(decision.into()))
        }
        Asks::Key => {
            let asked = instance
                .call_within(limit, |guest, store| Ok(convert::key(guest.key().call_key(store)?)?));
            asked.map(|key| CaseAnswer::Key(key.unwrap_or_default()))
        }
    })
}

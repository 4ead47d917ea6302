//! Standard HTTP components as fallbacks: those that export `wasi:http/incoming-handler`, as many
//! tool chains make them.
//!
//! Each request gets a fresh instance on a stack of its own: a guest that waits, or has run for an
//! epoch, gives the worker back. So these may wait, which guests of the contract must not. What
//! bounds them is [`time::ProcessorTime`], a deadline for the response head and one for the whole
//! body.
//!
//! Nothing is spawned: the task that waits for the head, and then for the next part of the body,
//! polls the guest itself ([`GuestRun`]), so it sees a trap at once. A guest that runs ahead of its
//! client is not polled, so it waits. Dropping the request or the body drops the guest. As long as
//! no head has been sent a guest that fails has declined, even if it had answered; later the body
//! breaks off. The result is reported when the guest is at rest ([`run::Halt`]): the order in which
//! the guest and its body end is a race.

mod account;
mod body;
mod fetched;
pub(crate) mod handler;
mod head;
pub(crate) mod outgoing;
mod requests;
mod run;
mod time;

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{Exchange, Peek, Response, ResponseBody};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use self::account::{Account, Told};
use self::body::GuestBody;
use self::head::Answered;
use self::run::GuestRun;
use crate::fault::GuestFailure;
use crate::seat::ledger::Ledger;
use crate::version::Version;

/// The budget of processor time for the body, as a multiple of that for the head.
const BODY_FACTOR: u32 = 10;

/// Everything that is ready, without waiting.
const WHAT_IS_THERE: Peek = Peek { bytes: usize::MAX, timeout: Duration::ZERO };

/// Lets `version` answer the request in place of the outcome. `None`: it declined, and the reason
/// has been reported. Dropping the future drops the guest.
pub(crate) async fn respond(
    ledger: Arc<Ledger>,
    version: Arc<Version>,
    seen: &Exchange<'_>,
) -> Option<Response> {
    let config = version.config();
    let Some(mut run) = GuestRun::start(&version, seen, config.timeout.0, false) else {
        ledger.meters().skipped();
        return None;
    };
    let mut account = Account::open(ledger, version.clone(), seen, &run);
    let Answered { status, headers, length, body } =
        match run.head(seen, config.response_timeout).await {
            Ok(answered) => answered,
            Err(failure) => {
                account.failed(failure);
                return None;
            }
        };
    let body = match body {
        None => {
            account.succeeded();
            ResponseBody::empty()
        }
        Some(body) => {
            run.time().allow(config.timeout.0 * BODY_FACTOR);
            let is_over = run.is_over();
            let body = GuestBody::new(run, body, length, account, config.body_timeout);
            let mut body = ResponseBody::stream(Box::pin(body));
            // The whole body is ready, so its length is known, and a broken one need not be sent.
            if is_over && body.peek(WHAT_IS_THERE).await.is_err() {
                return None;
            }
            body
        }
    };
    Some(Response::new(status, headers, body).made_by(version.id().clone()))
}

/// Starts an instance, and no more, within so much processor time and twice as long in all. Returns
/// what the guest printed.
///
/// # Errors
/// It does not start.
pub(crate) async fn start(
    version: &Arc<Version>,
    limit: Duration,
) -> Result<Vec<String>, GuestFailure> {
    run::start(version, limit).await
}

/// Sends `version` a made-up request and reads its answer, within `limit` for the head and again
/// for the body. A body that is still being sent then is accepted. Returns what the guest printed,
/// or `None` if the component has its maximum of instances.
///
/// # Errors
/// It does not start, or does not answer. Any answer is accepted.
pub(crate) async fn try_handle(
    version: &Arc<Version>,
    seen: &Exchange<'_>,
    processor_time: Duration,
    limit: Duration,
) -> Result<Option<Vec<String>>, GuestFailure> {
    let Some(mut run) = GuestRun::start(version, seen, processor_time, true) else {
        return Ok(None);
    };
    let console = run.console().clone();
    let head = run.head(seen, ConfigDuration(limit)).await?;
    if let Some(body) = head.body {
        run.time().allow(processor_time * BODY_FACTOR);
        let mut tried = Ok(());
        // It never gets as far as that limit.
        let limits = ConfigDuration(limit * 2);
        let mut body = GuestBody::new(run, body, head.length, Tried(&mut tried), limits);
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        timeout(limit, rest).await.ok();
        drop(body);
        tried?;
    }
    Ok(Some(console.take()))
}

/// The result of a trial.
struct Tried<'a>(&'a mut Result<(), GuestFailure>);

impl Told for Tried<'_> {
    fn succeeded(&mut self) {}

    fn failed(&mut self, failure: GuestFailure) {
        *self.0 = Err(failure);
    }
}

#[cfg(test)]
mod tests;

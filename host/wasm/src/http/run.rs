//! One request's guest at work: the call into it, and what it sends meanwhile.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{Exchange, Fault};
use futures_util::future::LocalBoxFuture;
use http_body_util::Empty;
use tokio::sync::oneshot;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::{Answered, Context as HttpContext, Outgoing, ProcessorTime};
use crate::attempt;
use crate::component::Version;
use crate::fault::Failure;
use crate::instances::{self, State};
use crate::status::Meters;
use crate::wasi::Console;

/// A request without a body, as the guest gets it.
pub(super) type GuestRequest = http::Request<Empty<Bytes>>;

/// A response as the guest gives it.
pub(super) type GuestResponse = http::Response<HyperOutgoingBody>;

pub(super) type Answer = Result<GuestResponse, ErrorCode>;

/// A guest that handles a request. Dropping it ends the guest.
pub(crate) struct Run {
    guest: Guest,
    head: Head,
    time: Arc<ProcessorTime>,
    console: Console,
}

enum Guest {
    Running(LocalBoxFuture<'static, Result<(), Failure>>),
    Returned,
    Failed,
}

enum Head {
    Awaited(oneshot::Receiver<Answer>),
    /// There will be none, for this reason.
    Missing(String),
}

/// Why the guest runs no further, if it has not failed.
///
/// What a guest does in one go, up to the point where it waits or returns, belongs together: a trap
/// that follows on the end of its answer is the cause, not that end. Whether an epoch ends in
/// between is chance, so an end counts only when the guest has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Others have their turn; it goes on with the next poll.
    Preempted,
    /// It waits, or has returned.
    AtRest,
}

impl Run {
    /// Prepares an instance that may use so much processor time until it has answered; it starts
    /// with the first poll. None: there are as many as there may be.
    pub(super) fn start(
        version: &Arc<Version>,
        request: GuestRequest,
        processor_time: Duration,
        outgoing: impl FnOnce(&Version, &Console) -> Outgoing,
    ) -> Option<Self> {
        let place = Place::take(version)?;
        let (sender, head) = oneshot::channel();
        let time = Arc::new(ProcessorTime::new(processor_time));
        let console = Console::new(version.config().log_lines);
        let outgoing = outgoing(version, &console);
        let handled = handle(
            place,
            version.clone(),
            request,
            sender,
            time.clone(),
            console.clone(),
            outgoing,
        );
        Some(Self::new(Box::pin(handled), head, time, console))
    }

    pub(super) fn new(
        guest: LocalBoxFuture<'static, Result<(), Failure>>,
        head: oneshot::Receiver<Answer>,
        time: Arc<ProcessorTime>,
        console: Console,
    ) -> Self {
        Self { guest: Guest::Running(guest), head: Head::Awaited(head), time, console }
    }

    pub(super) fn time(&self) -> &Arc<ProcessorTime> {
        &self.time
    }

    pub(super) fn console(&self) -> &Console {
        &self.console
    }

    /// Whether the guest has returned, well or not.
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.guest, Guest::Running(_))
    }

    /// Lets the guest go on. An error is a failure that has not been told yet.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Turn, Failure> {
        let Guest::Running(guest) = &mut self.guest else { return Ok(Turn::AtRest) };
        match self.time.count(|| guest.as_mut().poll(cx)) {
            Poll::Pending if self.time.is_preempted() => Ok(Turn::Preempted),
            // The runtime makes a task give way that has done much, whatever it would wait for.
            Poll::Pending if !has_budget_remaining() => {
                cx.waker().wake_by_ref();
                Ok(Turn::Preempted)
            }
            Poll::Pending => Ok(Turn::AtRest),
            Poll::Ready(Ok(())) => {
                self.guest = Guest::Returned;
                Ok(Turn::AtRest)
            }
            Poll::Ready(Err(failure)) => {
                self.guest = Guest::Failed;
                Err(failure)
            }
        }
    }

    /// Lets the guest go on until it waits or has returned.
    fn poll_to_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.poll(cx)? {
            Turn::Preempted => Poll::Pending,
            Turn::AtRest => Poll::Ready(Ok(())),
        }
    }

    /// Lets the guest go on until it has answered. A guest that has answered and then failed, all
    /// in one go, has failed: nothing of its answer has been sent.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<GuestResponse, Failure>> {
        let turn = self.poll(cx)?;
        if let Head::Awaited(head) = &mut self.head {
            let reason = match ready!(Pin::new(head).poll(cx)) {
                Ok(Ok(response)) => return Poll::Ready(Ok(response)),
                Ok(Err(code)) => format!("answered with an error: {code}"),
                // It may still run, but has nothing left to answer with.
                Err(_) => "gave no answer".to_owned(),
            };
            self.head = Head::Missing(reason);
        }
        match (&self.head, turn) {
            (Head::Missing(reason), Turn::AtRest) => {
                Poll::Ready(Err(self.failure(Fault::BadAnswer, reason.clone())))
            }
            _ => Poll::Pending,
        }
    }

    /// Lets the guest go on until it has answered with something that can be sent, for no longer
    /// than `limit`. It may ask about what was seen meanwhile.
    pub(super) async fn head(
        &mut self,
        seen: &Exchange<'_>,
        limit: ConfigDuration,
    ) -> Result<Answered, Failure> {
        let deadline = Instant::now() + limit.0;
        let head = poll_fn(|cx| attempt::lend(seen, || self.poll_head(cx)));
        let Ok(head) = timeout_at(deadline, head).await else {
            return Err(self.failure(Fault::Timeout, format!("gave no answer within {limit}")));
        };
        let answered = Answered::new(head?, &self.console);
        if answered.as_ref().is_ok_and(|answered| answered.body.is_some()) {
            return answered.map_err(|reason| self.failure(Fault::BadAnswer, reason));
        }
        // That was all of it. When time is up it counts as it is.
        let rest = poll_fn(|cx| attempt::lend(seen, || self.poll_to_rest(cx)));
        timeout_at(deadline, rest).await.unwrap_or(Ok(()))?;
        answered.map_err(|reason| self.failure(Fault::BadAnswer, reason))
    }

    /// A failure that is not a trap.
    pub(super) fn failure(&self, fault: Fault, reason: String) -> Failure {
        Failure::of_answer(fault, reason, &self.console)
    }
}

/// A place among the instances that a component may have at once.
struct Place(Arc<Meters>);

impl Place {
    fn take(version: &Version) -> Option<Self> {
        let meters = version.meters();
        meters.try_started(version.config().max_instances).then(|| Self(meters.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

async fn handle(
    _place: Place,
    version: Arc<Version>,
    request: GuestRequest,
    sender: oneshot::Sender<Answer>,
    time: Arc<ProcessorTime>,
    console: Console,
    outgoing: Outgoing,
) -> Result<(), Failure> {
    let (mut store, guest) = instantiate(&version, time, console, outgoing).await?;
    let mut view = store.data_mut().http();
    let resources = view.new_incoming_request(Scheme::Http, request).and_then(|request| {
        let out = view.new_response_outparam(sender)?;
        Ok((request, out))
    });
    let handled = match resources {
        Ok((request, out)) => guest.call_handle(&mut store, request, out).await,
        Err(error) => Err(error),
    };
    handled.map_err(|error| Failure::of_call(&error, store.data()))
}

async fn instantiate(
    version: &Arc<Version>,
    time: Arc<ProcessorTime>,
    console: Console,
    outgoing: Outgoing,
) -> Result<(Store<State>, incoming_handler::Guest), Failure> {
    let handler = version.handler().expect("only a version that has one is asked");
    let mut store = instances::store(version, time.limit(), console, HttpContext::new(outgoing));
    store.epoch_deadline_callback(move |mut store| {
        store.data_mut().looked_elsewhere(time.limit());
        time.look()
    });
    let guest = match handler.pre.instantiate_async(&mut store).await {
        Ok(instance) => handler.indices.load(&mut store, &instance),
        Err(error) => Err(error),
    };
    match guest {
        Ok(guest) => Ok((store, guest)),
        Err(error) => Err(Failure::of_start(&error, store.data())),
    }
}

/// Starts an instance, and no more. Returns what it printed. `limit` is for its processor time, and
/// for waiting beside that.
pub(super) async fn start(version: &Arc<Version>, limit: Duration) -> Result<Vec<String>, Failure> {
    let time = Arc::new(ProcessorTime::new(limit));
    let console = Console::new(version.config().log_lines);
    let outgoing = Outgoing::on_trial(version, &console);
    let mut started = pin!(instantiate(version, time.clone(), console.clone(), outgoing));
    let started = poll_fn(|cx| time.count(|| started.as_mut().poll(cx)));
    match timeout(limit * 2, started).await {
        Ok(started) => drop(started?),
        Err(_) => {
            return Err(Failure::of_answer(
                Fault::Instantiation,
                format!("took longer than {} to start", ConfigDuration(limit * 2)),
                &console,
            ));
        }
    }
    Ok(console.take())
}

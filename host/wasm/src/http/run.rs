//! One request's guest at work: the call into it, and what it sends meanwhile.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{Exchange, Fault, Worker};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};

use super::head::{self, Answered, GuestRequest, GuestResponse};
use super::outgoing::Outgoing;
use super::requests::GuestRequests;
use super::time::ProcessorTime;
use crate::attempt;
use crate::fault::GuestFailure;
use crate::meters::Meters;
use crate::question::GuestQuestion;
use crate::store::{HostState, new_store};
use crate::thread_time::CallClock;
use crate::version::Version;
use crate::wasi::console::Console;

/// What a guest answers.
pub(super) type GuestAnswer = Result<GuestResponse, ErrorCode>;

/// A guest that handles a request. Dropping it ends the guest.
pub(crate) struct GuestRun {
    guest: GuestTask,
    /// What it asks of others. `None`: it asks nobody. Boxed: few do.
    requests: Option<Box<GuestRequests>>,
    head: AwaitedHead,
    time: Arc<ProcessorTime>,
    console: Console,
    /// Who gives it its turns. `None`: it is on trial, off the workers.
    worker: Option<Rc<Worker>>,
    /// What it waits for, if it was preempted.
    turn: Option<LocalBoxFuture<'static, ()>>,
}

enum GuestTask {
    Running(LocalBoxFuture<'static, Result<(), GuestFailure>>),
    Returned,
    Failed,
}

enum AwaitedHead {
    Awaited(oneshot::Receiver<GuestAnswer>),
    /// There will be none, for this reason.
    Missing(String),
}

/// Why a poll of the guest ended without a failure.
///
/// What a guest does until it waits or returns belongs together: a trap right after the end of its
/// answer is the cause of that end. An epoch may end in between at any point, so the end of an
/// answer counts only when the guest is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// An epoch ended; the guest continues with a later poll, when it has its turn.
    Preempted,
    /// It waits, or has returned.
    AtRest,
}

impl GuestRun {
    /// Prepares an instance with a budget of processor time until it has answered, which may ask
    /// whom it was granted if it is not on trial. It starts with the first poll. `None`: the
    /// component has its maximum of instances.
    pub(super) fn start(
        version: &Arc<Version>,
        seen: &Exchange<'_>,
        processor_time: Duration,
        is_on_trial: bool,
    ) -> Option<Self> {
        let permit = InstancePermit::take(version)?;
        let (sender, answer) = oneshot::channel();
        let time = Arc::new(ProcessorTime::new(processor_time));
        let console = Console::new(version.bounds().log_lines);
        let (outgoing, requests) = if is_on_trial {
            (Outgoing::on_trial(&console), None)
        } else {
            let (outgoing, receiver) = Outgoing::granted(version.bounds(), &console);
            let asks = version.config().grants_hosts();
            let requests = || GuestRequests::new(receiver, version, seen, &console).into();
            (outgoing, asks.then(requests))
        };
        let handled = handle(
            permit,
            version.clone(),
            head::request(seen),
            sender,
            time.clone(),
            console.clone(),
            outgoing,
        );
        let worker = (!is_on_trial).then(|| seen.call.worker().clone());
        Some(Self { requests, worker, ..Self::new(Box::pin(handled), answer, time, console) })
    }

    pub(super) fn new(
        guest: LocalBoxFuture<'static, Result<(), GuestFailure>>,
        head: oneshot::Receiver<GuestAnswer>,
        time: Arc<ProcessorTime>,
        console: Console,
    ) -> Self {
        let (guest, head) = (GuestTask::Running(guest), AwaitedHead::Awaited(head));
        Self { guest, requests: None, head, time, console, worker: None, turn: None }
    }

    pub(super) fn time(&self) -> &Arc<ProcessorTime> {
        &self.time
    }

    pub(super) fn console(&self) -> &Console {
        &self.console
    }

    /// Whether the guest has returned, well or not.
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.guest, GuestTask::Running(_))
    }

    /// Polls the guest, and what it asks. An error is a failure that has not been reported yet.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Halt, GuestFailure> {
        let polled = self.poll_guest(cx);
        if self.is_over() {
            self.requests = None;
        } else if let Some(requests) = &mut self.requests {
            requests.poll(cx);
        }
        polled
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Result<Halt, GuestFailure> {
        let GuestTask::Running(guest) = &mut self.guest else { return Ok(Halt::AtRest) };
        if let Some(turn) = &mut self.turn {
            if turn.as_mut().poll(cx).is_pending() {
                return Ok(Halt::Preempted);
            }
            self.turn = None;
        }
        match self.time.count(|| guest.as_mut().poll(cx)) {
            Poll::Pending if self.time.is_preempted() => {
                self.turn = self.worker.clone().map(next_turn);
                Ok(Halt::Preempted)
            }
            // tokio makes a busy task yield, even if what it waits for is ready.
            Poll::Pending if !has_budget_remaining() => {
                cx.waker().wake_by_ref();
                Ok(Halt::Preempted)
            }
            Poll::Pending => Ok(Halt::AtRest),
            Poll::Ready(Ok(())) => {
                self.guest = GuestTask::Returned;
                Ok(Halt::AtRest)
            }
            Poll::Ready(Err(failure)) => {
                self.guest = GuestTask::Failed;
                Err(failure)
            }
        }
    }

    /// Polls the guest until it waits or has returned.
    fn poll_to_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        match self.poll(cx)? {
            Halt::Preempted => Poll::Pending,
            Halt::AtRest => Poll::Ready(Ok(())),
        }
    }

    /// Polls the guest until it has answered. A guest that has answered and then failed, all in one
    /// go, has failed: nothing of its answer has been sent.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<GuestResponse, GuestFailure>> {
        let halt = self.poll(cx)?;
        if let AwaitedHead::Awaited(head) = &mut self.head {
            let reason = match ready!(Pin::new(head).poll(cx)) {
                Ok(Ok(response)) => return Poll::Ready(Ok(response)),
                Ok(Err(code)) => format!("answered with an error: {code}"),
                // The guest may still run, but can no longer answer.
                Err(_) => "gave no answer".to_owned(),
            };
            self.head = AwaitedHead::Missing(reason);
        }
        match (&self.head, halt) {
            (AwaitedHead::Missing(reason), Halt::AtRest) => {
                Poll::Ready(Err(self.failure(Fault::BadAnswer, reason.clone())))
            }
            _ => Poll::Pending,
        }
    }

    /// Polls the guest until it has answered with a head that can be sent, for no longer than
    /// `limit`. Meanwhile it may ask about the exchange.
    pub(super) async fn head(
        &mut self,
        seen: &Exchange<'_>,
        limit: ConfigDuration,
    ) -> Result<Answered, GuestFailure> {
        let question = GuestQuestion::response(seen);
        let deadline = Instant::now() + limit.0;
        let head = poll_fn(|cx| attempt::lend(&question, || self.poll_head(cx)));
        let Ok(head) = timeout_at(deadline, head).await else {
            return Err(self.failure(Fault::Timeout, format!("gave no answer within {limit}")));
        };
        let (head, body) = head?.into_parts();
        // One that is not sent is kept until the guest rests: were it closed while the guest still
        // writes, it would depend on an epoch whether the guest fails.
        let mut body = Some(body);
        let answered = Answered::new(head, &mut body, &self.console);
        if answered.as_ref().is_ok_and(|answered| answered.body.is_some()) {
            return answered.map_err(|reason| self.failure(Fault::BadAnswer, reason));
        }
        // The answer is complete. If time runs out while the guest still runs, the answer counts.
        let rest = poll_fn(|cx| attempt::lend(&question, || self.poll_to_rest(cx)));
        timeout_at(deadline, rest).await.unwrap_or(Ok(()))?;
        answered.map_err(|reason| self.failure(Fault::BadAnswer, reason))
    }

    /// A failure that is not a trap.
    pub(super) fn failure(&self, fault: Fault, reason: String) -> GuestFailure {
        GuestFailure::of_answer(fault, reason, &self.console)
    }
}

/// A guest has run for as long as it may at once: all others of its worker go on before the next
/// one does, itself or another.
fn next_turn(worker: Rc<Worker>) -> LocalBoxFuture<'static, ()> {
    worker.question_turns().lasted();
    Box::pin(async move { worker.question_turns().next().await })
}

/// A place among the instances that a component may have at once.
struct InstancePermit(Arc<Meters>);

impl InstancePermit {
    fn take(version: &Version) -> Option<Self> {
        let meters = version.meters();
        meters.try_started(version.config().max_instances).then(|| Self(meters.clone()))
    }
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

async fn handle(
    _permit: InstancePermit,
    version: Arc<Version>,
    request: GuestRequest,
    sender: oneshot::Sender<GuestAnswer>,
    time: Arc<ProcessorTime>,
    console: Console,
    outgoing: Outgoing,
) -> Result<(), GuestFailure> {
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
    handled.map_err(|error| GuestFailure::of_call(&error, store.data()))
}

async fn instantiate(
    version: &Arc<Version>,
    time: Arc<ProcessorTime>,
    console: Console,
    outgoing: Outgoing,
) -> Result<(Store<HostState>, incoming_handler::Guest), GuestFailure> {
    let handler = version.handler().expect("only a version that has one is asked");
    let (engine, clock) = (version.runtime().engine(), CallClock::new(time.limit()));
    let mut store =
        new_store(engine, version.bounds(), version.open_memory(), clock, None, console, outgoing);
    store.epoch_deadline_callback(move |mut store| {
        store.data_mut().set_time_limit(time.limit());
        time.look()
    });
    match handler.instantiate(&mut store).await {
        Ok(guest) => Ok((store, guest)),
        Err(error) => Err(GuestFailure::of_start(&error, store.data())),
    }
}

/// Starts an instance, and no more. Returns what it printed. `limit` is for its processor time, and
/// for waiting beside that.
pub(super) async fn start(
    version: &Arc<Version>,
    limit: Duration,
) -> Result<Vec<String>, GuestFailure> {
    let time = Arc::new(ProcessorTime::new(limit));
    let console = Console::new(version.bounds().log_lines);
    let outgoing = Outgoing::on_trial(&console);
    let mut started = pin!(instantiate(version, time.clone(), console.clone(), outgoing));
    let started = poll_fn(|cx| time.count(|| started.as_mut().poll(cx)));
    match timeout(limit * 2, started).await {
        Ok(started) => drop(started?),
        Err(_) => {
            return Err(GuestFailure::of_answer(
                Fault::Instantiation,
                format!("took longer than {} to start", ConfigDuration(limit * 2)),
                &console,
            ));
        }
    }
    Ok(console.take())
}

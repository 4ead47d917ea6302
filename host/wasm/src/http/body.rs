//! A response body that a guest is still making.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{Error, ErrorKind, Fault};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::account::Told;
use super::run::{GuestRun, Halt};
use crate::fault::GuestFailure;

/// Polling it polls the guest. What the guest has written is sent before a later failure breaks the
/// body off. The end of the body counts when the guest is at rest; the guest is then dropped, even
/// if it is waiting.
pub(super) struct GuestBody<T> {
    /// `None`: the body has ended.
    sending: Option<BodyInProgress<T>>,
    /// Bytes that are still to come, if the guest has said how many.
    left: Option<u64>,
    limit: ConfigDuration,
    deadline: Pin<Box<Sleep>>,
    client: ClientWait,
}

struct BodyInProgress<T> {
    run: GuestRun,
    body: HyperOutgoingBody,
    account: T,
    /// The last piece of a body of announced length. hyper reads nothing after it, so it is held
    /// back until the guest is at rest.
    last: Option<Frame<Bytes>>,
    end: Option<GuestBodyEnd>,
    /// The reported result: success, or the reason of the failure.
    told: Option<Result<(), String>>,
}

/// How the guest has ended its body.
#[derive(Clone, Copy, PartialEq)]
enum GuestBodyEnd {
    Whole,
    Unfinished,
}

/// How long the client has waited for the guest in total.
#[derive(Default)]
struct ClientWait {
    since: Option<Instant>,
    total: Duration,
}

type Frames = Poll<Option<Result<Frame<Bytes>, Error>>>;

impl<T: Told> GuestBody<T> {
    pub(super) fn new(
        run: GuestRun,
        body: HyperOutgoingBody,
        length: Option<u64>,
        account: T,
        limit: ConfigDuration,
    ) -> Self {
        let sending = BodyInProgress { run, body, account, last: None, end: None, told: None };
        Self {
            sending: Some(sending),
            left: length,
            limit,
            deadline: Box::pin(sleep(limit.0)),
            client: ClientWait::default(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Frames {
        let is_late = self.deadline.as_mut().poll(cx).is_ready();
        let Some(sending) = self.sending.as_mut().filter(|sending| sending.told != Some(Ok(())))
        else {
            self.sending = None;
            return Poll::Ready(None);
        };
        let is_at_rest = sending.poll_guest(cx) || is_late;
        if sending.last.is_none() && sending.end.is_none() {
            match Pin::new(&mut sending.body).poll_frame(cx) {
                Poll::Pending | Poll::Ready(Some(Ok(_))) if is_late => return self.late(),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    self.left = self.left.map(|left| left.saturating_sub(length));
                    if self.left != Some(0) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    sending.last = Some(frame);
                }
                Poll::Ready(Some(Err(_))) => sending.end = Some(GuestBodyEnd::Unfinished),
                // The guest returned without finishing the body.
                Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                    sending.end = Some(GuestBodyEnd::Unfinished);
                }
                Poll::Ready(None) => sending.end = Some(GuestBodyEnd::Whole),
            }
        }
        if sending.end.is_none() {
            sending.end = match Pin::new(&mut sending.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => Some(GuestBodyEnd::Unfinished),
                Poll::Ready(Some(Err(_))) => Some(GuestBodyEnd::Unfinished),
                Poll::Ready(_) => Some(GuestBodyEnd::Whole),
                Poll::Pending => is_at_rest.then_some(GuestBodyEnd::Whole),
            };
        }
        let Some(end) = sending.end.filter(|_| is_at_rest) else { return Poll::Pending };
        sending.tell(end);
        if let Some(last) = sending.last.take() {
            // Who knows the length does not ask for more, and is to see that nothing is missing.
            if sending.told == Some(Ok(())) {
                self.sending = None;
            }
            return Poll::Ready(Some(Ok(last)));
        }
        let told = self.sending.take().and_then(|sending| sending.told);
        match told.unwrap_or(Ok(())) {
            Ok(()) => Poll::Ready(None),
            Err(reason) => self.break_off(reason),
        }
    }

    /// Time is up within the body. It is the guest's fault if the client has waited for it at least
    /// half of that time; otherwise the client, or the length of the body, took so long.
    fn late(&mut self) -> Frames {
        let reason = format!("body took longer than {}", self.limit);
        let Some(mut sending) = self.sending.take() else { return Poll::Ready(None) };
        if sending.told.is_none() && self.client.total >= self.limit.0 / 2 {
            sending.fail(Fault::Timeout, reason.clone());
        }
        let told = sending.told.and_then(Result::err);
        self.break_off(told.unwrap_or(reason))
    }

    fn break_off(&mut self, reason: String) -> Frames {
        self.sending = None;
        Poll::Ready(Some(Err(Error::new(ErrorKind::Internal).with_source(reason))))
    }
}

impl<T: Told> BodyInProgress<T> {
    /// Polls the guest. Returns whether it is at rest. A failure is reported at once, because the
    /// client may never read the rest of the body.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> bool {
        match self.run.poll(cx) {
            Ok(halt) => halt == Halt::AtRest,
            Err(failure) => {
                self.failed(failure);
                true
            }
        }
    }

    /// Reports how the body ended, unless a failure of the guest was reported.
    fn tell(&mut self, end: GuestBodyEnd) {
        match end {
            _ if self.told.is_some() => {}
            GuestBodyEnd::Whole => {
                self.told = Some(Ok(()));
                self.account.succeeded();
            }
            GuestBodyEnd::Unfinished => self.fail(
                Fault::BadAnswer,
                "did not finish its body, or not with the length that it had announced".to_owned(),
            ),
        }
    }

    fn fail(&mut self, fault: Fault, reason: String) {
        self.failed(self.run.failure(fault, reason));
    }

    fn failed(&mut self, failure: GuestFailure) {
        self.told = Some(Err(failure.detail.clone()));
        self.account.failed(failure);
    }
}

impl<T: Told + Unpin> Body for GuestBody<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Frames {
        self.client.ended();
        let frame = self.poll_next(cx);
        if frame.is_pending() {
            self.client.began();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.sending.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.sending, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl ClientWait {
    fn began(&mut self) {
        self.since = Some(Instant::now());
    }

    fn ended(&mut self) {
        self.total += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }
}

//! A response body that a guest is still making.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{Error, ErrorKind, Fault};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::{Account, Run};
use crate::fault::Failure;

/// Polling it polls the guest, and what the guest has written is sent before anything that went
/// wrong since: then it breaks off. At its end the guest is dropped, whatever it is still doing.
pub(super) struct GuestBody {
    /// None: it has ended.
    parts: Option<Parts>,
    /// Bytes that are still to come, if the guest has said how many.
    left: Option<u64>,
    limit: ConfigDuration,
    deadline: Pin<Box<Sleep>>,
}

struct Parts {
    run: Run,
    body: HyperOutgoingBody,
    account: Account,
    /// What ended the guest before its body ended.
    failure: Option<Failure>,
}

impl GuestBody {
    pub(super) fn new(
        run: Run,
        body: HyperOutgoingBody,
        length: Option<u64>,
        account: Account,
        limit: ConfigDuration,
    ) -> Self {
        let parts = Some(Parts { run, body, account, failure: None });
        Self { parts, left: length, limit, deadline: Box::pin(sleep(limit.0)) }
    }

    fn fail(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let error = broken_off(failure.detail.clone());
        if let Some(mut parts) = self.parts.take() {
            parts.account.failed(failure);
        }
        Poll::Ready(Some(Err(error)))
    }
}

fn broken_off(reason: String) -> Error {
    Error::new(ErrorKind::Internal).with_source(reason)
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let is_late = this.deadline.as_mut().poll(cx).is_ready();
        let Some(Parts { run, body, failure, .. }) = &mut this.parts else {
            return Poll::Ready(None);
        };
        if let Err(new) = run.poll(cx) {
            *failure = Some(new);
        }
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(_))) if is_late => {
                // It is the client, or sheer length, that took so long: no fault of the guest's.
                this.parts = None;
                Poll::Ready(Some(Err(broken_off(format!("body took longer than {}", this.limit)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.left = this.left.map(|left| left.saturating_sub(length));
                Poll::Ready(Some(Ok(frame)))
            }
            ended => match (failure.take(), ended) {
                (Some(failure), _) => this.fail(failure),
                (None, Poll::Ready(Some(Err(_)))) => {
                    let failure = unfinished(run);
                    this.fail(failure)
                }
                (None, Poll::Ready(_)) => {
                    if let Some(mut parts) = this.parts.take() {
                        parts.account.succeeded();
                    }
                    Poll::Ready(None)
                }
                (None, Poll::Pending) if is_late => {
                    let failure = run
                        .failure(Fault::Timeout, format!("body took longer than {}", this.limit));
                    this.fail(failure)
                }
                (None, Poll::Pending) => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.parts, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// The guest has dropped its body, or made it shorter or longer than it had said.
fn unfinished(run: &Run) -> Failure {
    run.failure(
        Fault::BadAnswer,
        "did not finish its body, or not with the length that it had announced".to_owned(),
    )
}

/// Reads on to the end of what the guest sends, for nobody.
pub(super) fn poll_to_end(
    run: &mut Run,
    body: &mut HyperOutgoingBody,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    loop {
        run.poll(cx)?;
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Poll::Ready(Err(unfinished(run))),
            None => return Poll::Ready(Ok(())),
        }
    }
}

//! Reads the body of a response into a fill, at its own pace: no client, slow or gone, holds it up.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::Body;

use super::kept::{KeptHead, KeptResponse};
use super::lead::FillLead;
use super::reader::Handover;
use super::taken::TakenRoom;
use crate::body::ResponseBody;
use crate::call::Reporter;
use crate::error::ErrorKind;
use crate::event::{CacheEvent, NotStored};

/// Reads a body into a fill. Dropped before its end, the body has broken off.
pub(super) struct FillPump {
    pub(super) lead: FillLead,
    pub(super) head: Arc<KeptHead>,
    pub(super) body: ResponseBody,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) room: TakenRoom,
    pub(super) handover: Rc<Handover>,
    pub(super) reporter: Reporter,
    pub(super) is_over: bool,
}

impl FillPump {
    /// Reads what there is. Ready: it is over, with the response if that came whole.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<KeptResponse>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.break_off(error.kind());
                    return Poll::Ready(None);
                }
                None => return Poll::Ready(Some(self.finish())),
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Err(reason) = self.push(&data) {
                        self.give_up(Some(&data), reason);
                        return Poll::Ready(None);
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<(), NotStored> {
        let Self { lead, head, room, .. } = self;
        let left = lead.cache().max_entry.saturating_sub(head.weight());
        let fill = lead.fill();
        if fill.length() + data.len() > left {
            return Err(NotStored::Size);
        }
        // Memory grows by doubling, but not beyond what an entry may take.
        let is_taken = fill.push(data, left, |bytes| room.take(bytes));
        if is_taken { Ok(()) } else { Err(NotStored::Room) }
    }

    fn finish(&mut self) -> Arc<KeptResponse> {
        let (cache, fill) = (self.lead.cache().clone(), self.lead.fill().clone());
        let mut bytes = fill.take_bytes();
        bytes.shrink_to_fit();
        let response = Arc::new(KeptResponse {
            head: self.head.clone(),
            body: bytes.into(),
            trailers: self.trailers.take(),
        });
        if let Some(freshness) = self.head.freshness {
            let is_kept = cache.store.keep(&self.lead.found().first, &fill, &response);
            if self.reporter.wants_details() {
                let (bytes, lifetime) = (response.weight() as u64, freshness.lifetime);
                let event = match is_kept {
                    true => CacheEvent::Stored { bytes, lifetime },
                    false => CacheEvent::Refused { reason: NotStored::Outdated },
                };
                self.reporter.emit(&cache.name, event);
            }
        }
        self.end(|fill| fill.complete(response.clone(), false));
        response
    }

    fn break_off(&mut self, kind: ErrorKind) {
        let name = self.lead.cache().name.clone();
        self.reporter.emit(&name, CacheEvent::Broken { kind });
        self.end(|fill| fill.break_off(kind));
    }

    /// It is not kept, for this reason: its first reader gets the rest, beginning with `data`.
    pub(super) fn give_up(&mut self, data: Option<&bytes::Bytes>, reason: NotStored) {
        let name = self.lead.cache().name.clone();
        if self.reporter.wants_details() {
            self.reporter.emit(&name, CacheEvent::Refused { reason });
        }
        let mut rest = std::mem::take(&mut self.body);
        if let Some(data) = data {
            rest.put_back(data.clone());
        }
        let none = TakenRoom::none(self.lead.cache());
        self.handover.leave(rest, std::mem::replace(&mut self.room, none));
        self.end(super::fill::Fill::outgrow);
    }

    fn end(&mut self, say: impl FnOnce(&super::fill::Fill)) {
        self.is_over = true;
        self.lead.answer(say);
    }
}

impl Future for FillPump {
    type Output = Option<Arc<KeptResponse>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_fill(cx)
    }
}

impl Drop for FillPump {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(|fill| fill.break_off(ErrorKind::ConnectionTerminated));
        }
    }
}

impl fmt::Debug for FillPump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillPump").field("head", &self.head).finish_non_exhaustive()
    }
}

//! What of an answer of the upstream is kept, and for whom.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderMap, StatusCode};

use super::{ResponseArrival, Visit};
use crate::body::ResponseBody;
use crate::call_fields;
use crate::event::{CacheEvent, NotStored};
use crate::outcome::Response;
use crate::policies::cache::conditional;
use crate::policies::cache::control::Directives;
use crate::policies::cache::kept::KeptHead;
use crate::policies::cache::lead::FillLead;
use crate::policies::cache::pump::FillPump;
use crate::policies::cache::reader::{FillReader, Handover};
use crate::policies::cache::rules::{self, Freshness};
use crate::policies::cache::status::{CACHE_STATUS, CacheStatus, Forwarded};
use crate::policies::cache::taken::TakenRoom;

impl Visit<'_> {
    pub(super) fn may_store(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        arrival: ResponseArrival,
    ) -> Result<Freshness, NotStored> {
        let (asked, defaults) = (&self.call.head().headers, &self.cache.defaults);
        rules::may_store(asked, status, headers, arrival.delay, arrival.date, defaults)
    }

    /// A response is not kept, and not for others.
    pub(super) fn refuse(
        &self,
        lead: FillLead,
        reason: NotStored,
        is_failure: bool,
        arrival: ResponseArrival,
    ) {
        if self.call.reporter().wants_details() {
            self.emit(CacheEvent::Refused { reason });
        }
        // What is kept may yet stand for a failure, and room comes back.
        let is_replaced = !(is_failure && lead.found().response.is_some());
        // What is asked for again and again need not be said each time.
        let is_news = is_replaced && !lead.found().stays_apart(arrival.at);
        if is_news && reason != NotStored::Room {
            lead.set_apart(arrival.at);
        } else {
            lead.keep_apart();
        }
    }

    pub(super) fn head(
        &self,
        lead: &mut FillLead,
        status: StatusCode,
        headers: &HeaderMap,
        freshness: Option<Freshness>,
        arrival: ResponseArrival,
    ) -> KeptHead {
        let store = &self.cache.store;
        let (vary, key) = store.place(lead.found(), lead.fill(), self.request(), headers);
        lead.move_to(&key);
        KeptHead::new(status, headers, freshness, (arrival.at, arrival.date), vary, key)
    }

    /// A response of the upstream. A failure is for those who wait, and is not kept.
    pub(super) async fn arrived(
        &self,
        mut lead: FillLead,
        mut response: Response,
        is_failure: bool,
        arrival: ResponseArrival,
        why: Forwarded,
    ) -> Response {
        let told = CacheStatus::forwarded(why);
        let (asked, status) = (&self.call.head().headers, response.status);
        let headers = response.headers.map_mut();
        let stored = if is_failure {
            let said = Directives::of(headers);
            let allowed = rules::allows(asked, status, headers, &said);
            allowed.map(|()| None).map_err(|_| NotStored::Failure)
        } else {
            self.may_store(status, headers, arrival).map(Some)
        };
        let length = response.body.length();
        let stored = stored.and_then(|freshness| {
            let head = self.head(&mut lead, status, headers, freshness, arrival);
            let mut room = TakenRoom::none(self.cache);
            match length {
                Some(length) if length.saturating_add(head.weight()) > self.cache.max_entry => {
                    Err(NotStored::Size)
                }
                Some(length) if !room.take(length) => Err(NotStored::Room),
                _ => Ok((freshness, head, room)),
            }
        });
        let (freshness, head, room) = match stored {
            Ok(stored) => stored,
            Err(reason) => {
                self.refuse(lead, reason, is_failure, arrival);
                told.add_to(headers);
                return self.unless_known(response);
            }
        };
        let lead = match freshness.is_none_or(|freshness| freshness.is_for_many()) {
            true => lead,
            false => {
                let found = lead.found().clone();
                lead.keep_apart();
                FillLead::alone(self.cache, found)
            }
        };
        let body = std::mem::take(&mut response.body);
        response.body = self.fill(lead, head.into(), body, length, room).await;
        told.stored(freshness.is_some()).add_to(response.headers.map_mut());
        self.unless_known(response)
    }

    /// Fills with a body, and reads from there.
    async fn fill(
        &self,
        mut lead: FillLead,
        head: Arc<KeptHead>,
        body: ResponseBody,
        length: Option<usize>,
        room: TakenRoom,
    ) -> ResponseBody {
        let (fill, handover) = (lead.fill().clone(), Rc::<Handover>::default());
        lead.answer(|fill| fill.begin(head.clone(), length));
        let mut pump = Box::pin(FillPump {
            lead,
            head,
            body,
            trailers: None,
            room,
            handover: handover.clone(),
            reporter: self.call.reporter().clone(),
            is_over: false,
        });
        let reader = FillReader::first(&fill, handover, length);
        // Most bodies are there with their head.
        match poll_fn(|cx| Poll::Ready(pump.as_mut().poll(cx))).await {
            Poll::Ready(Some(whole)) => return whole.body(),
            Poll::Ready(None) => {}
            Poll::Pending => {
                let background = self.call.worker().background();
                if background.has_place() {
                    background.run(Box::pin(async { drop(pump.await) }));
                } else {
                    pump.give_up(None, NotStored::Busy);
                }
            }
        }
        ResponseBody::stream(Box::pin(reader))
    }

    /// The response, or that the client has it already.
    fn unless_known(&self, mut response: Response) -> Response {
        let headers = response.headers.map_mut();
        if conditional::has_already(self.request(), response.status, headers) {
            response.status = StatusCode::NOT_MODIFIED;
            let status = headers.get(CACHE_STATUS).cloned();
            let own = call_fields::among(headers);
            *headers = conditional::not_modified(headers);
            headers.extend(status.map(|said| (CACHE_STATUS, said)));
            headers.extend(own);
            response.body = ResponseBody::empty();
        }
        response
    }
}

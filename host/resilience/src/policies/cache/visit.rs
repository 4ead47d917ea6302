//! A GET or HEAD at the cache: answered from what is kept, from another one's answer, or by asking
//! the upstream, which is then for others too.

mod storing;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::conditional;
use super::control::Directives;
use super::fill::{Fill, Looker, SharedAnswer, SharedFailure};
use super::kept::{KeptHead, KeptResponse};
use super::key::CacheKey;
use super::lead::FillLead;
use super::reader::FillReader;
use super::rules::{Freshness, Usable};
use super::shared::CacheHandle;
use super::status::{CacheStatus, Forwarded};
use super::store::{CacheLookup, Joined};
use crate::body::ResponseBody;
use crate::call::Call;
use crate::call_fields;
use crate::clock;
use crate::condition::Asker;
use crate::error::Origin;
use crate::event::{CacheEvent, CacheResult, StaleReason};
use crate::outcome::{Outcome, OutcomeExt, Response};
use crate::policy::Next;
use crate::preconditions::Preconditions;
use crate::request::Request;

/// A GET or HEAD at the cache.
pub(super) struct Visit<'a> {
    pub(super) cache: &'a Rc<CacheHandle>,
    pub(super) call: &'a Call,
    pub(super) next: Next<'a>,
    pub(super) asked: Directives,
    pub(super) first: CacheKey,
    pub(super) is_head: bool,
}

/// When an answer came, and how long it took.
#[derive(Clone, Copy)]
struct ResponseArrival {
    delay: Duration,
    at: Instant,
    /// By the wall clock.
    date: SystemTime,
}

/// Whether the upstream says that what is kept is still valid.
fn is_validation(response: &Response) -> bool {
    response.status == StatusCode::NOT_MODIFIED && !response.is_stand_in()
}

/// What became of waiting for the answer to another request.
enum Followed {
    Answered(Outcome),
    /// It asks by itself.
    Alone,
    /// It looks again.
    Again,
}

impl<'a> Visit<'a> {
    fn request(&self) -> &'a Request {
        self.call.request()
    }

    fn emit(&self, event: CacheEvent) {
        self.call.emit(&self.cache.name, event);
    }

    fn used(&self, result: CacheResult, age: Option<Duration>) {
        self.emit(CacheEvent::Used { result, age });
    }

    /// The answer to it.
    pub(super) async fn answer(&self) -> Outcome {
        let store = &self.cache.store;
        let until = clock::now() + self.cache.collapse_wait;
        loop {
            let now = clock::now();
            let found = store.find(&self.first, self.request(), now);
            if let Some(response) = self.kept(&found, now) {
                return Ok(response);
            }
            let why = self.why(&found, now);
            if self.asked.only_if_cached {
                return Ok(self.not_kept(why));
            }
            if self.is_head || self.asked.no_store {
                return self.pass(&found, why).await;
            }
            if found.apart_until.is_some()
                || found.response.as_ref().is_some_and(|kept| !kept.becomes_fresh())
            {
                return self.lead(FillLead::alone(self.cache, found), why).await;
            }
            match store.join(&found) {
                Joined::First(fill) => {
                    return self.lead(FillLead::of(self.cache, fill, found), why).await;
                }
                Joined::Filled => {}
                Joined::Other(fill) => match self.follow(&found, &fill, until, why).await {
                    Followed::Answered(outcome) => return outcome,
                    Followed::Alone => {
                        return self.lead(FillLead::alone(self.cache, found), why).await;
                    }
                    Followed::Again => {}
                },
            }
        }
    }

    /// Why it goes on to the upstream.
    fn why(&self, found: &CacheLookup, now: Instant) -> Forwarded {
        match &found.response {
            None if found.vary.is_some() => Forwarded::VaryMiss,
            None => Forwarded::UriMiss,
            Some(kept) if kept.is_fresh(now) => Forwarded::Request,
            Some(_) => Forwarded::Stale,
        }
    }

    // ===== from what is kept =====

    fn kept(&self, found: &CacheLookup, now: Instant) -> Option<Response> {
        let kept = found.response.as_ref()?;
        let freshness = kept.head.freshness?;
        let age = kept.head.age(now);
        let status = CacheStatus::hit(age, freshness.lifetime);
        let reason = match freshness.usable(age, &self.asked) {
            Usable::Validated => return None,
            Usable::Fresh => {
                self.used(CacheResult::Hit, Some(age));
                let response = kept.response(self.request(), age, status);
                return Some(response.into_stand_in(0));
            }
            Usable::AsAsked => StaleReason::MaxStale,
            Usable::WhileRevalidating => {
                self.revalidate(found);
                StaleReason::WhileRevalidating
            }
        };
        Some(self.stale(kept, age, reason, status))
    }

    fn stale(
        &self,
        kept: &KeptResponse,
        age: Duration,
        reason: StaleReason,
        status: CacheStatus,
    ) -> Response {
        self.used(CacheResult::Stale, Some(age));
        self.emit(CacheEvent::ServedStale { reason, age });
        let status = status.detail(reason.name());
        kept.response(self.request(), age, status).into_stand_in(0)
    }

    /// Nothing is kept, and the client wants nothing else.
    fn not_kept(&self, why: Forwarded) -> Response {
        self.used(CacheResult::Miss, None);
        let mut headers = HeaderMap::new();
        CacheStatus::forwarded(why).detail("only-if-cached").add_to(&mut headers);
        let status = StatusCode::GATEWAY_TIMEOUT;
        Response::new(status, headers, ResponseBody::empty()).into_stand_in(0)
    }

    /// Asks the upstream behind this call whether what is kept is still valid, unless somebody
    /// does.
    fn revalidate(&self, found: &CacheLookup) {
        let background = self.call.worker().background();
        if self.is_head || !background.has_place() {
            return;
        }
        let Some(pipeline) = self.next.detached() else { return };
        let Joined::First(fill) = self.cache.store.join(found) else { return };
        let lead = FillLead::of(self.cache, fill, found.clone());
        let (cache, call) = (self.cache.clone(), self.call.detached());
        let (asked, first) = (self.asked, self.first.clone());
        background.run(Box::pin(async move {
            let scope = pipeline.scope();
            let next = pipeline.next(&scope);
            let visit = Visit { cache: &cache, call: &call, next, asked, first, is_head: false };
            drop(visit.ask(lead, Forwarded::Stale).await);
        }));
    }

    // ===== from another one's answer =====

    async fn follow(
        &self,
        found: &CacheLookup,
        fill: &Arc<Fill>,
        until: Instant,
        why: Forwarded,
    ) -> Followed {
        let looker = Looker::new(fill);
        let own_key = |head: &KeptHead| match &head.vary {
            Some(names) => names.second(&self.first, self.request()),
            None => self.first.clone(),
        };
        let shared = poll_fn(|cx| looker.poll_shared(own_key, cx));
        let Ok(shared) = timeout_at(until, shared).await else {
            self.emit(CacheEvent::WaitedTooLong);
            return Followed::Alone;
        };
        let now = clock::now();
        let (head, response) = match shared {
            SharedAnswer::Unshared => return Followed::Alone,
            SharedAnswer::Abandoned => return Followed::Again,
            SharedAnswer::Failed(failure) => {
                return Followed::Answered(self.failed_too(found, failure));
            }
            SharedAnswer::Stale(kept) => {
                let (age, status) = (kept.head.age(now), CacheStatus::forwarded(why).collapsed());
                let response = self.stale(&kept, age, StaleReason::Error, status);
                return Followed::Answered(Ok(response));
            }
            SharedAnswer::Arriving(head, length) => {
                let reader = || ResponseBody::stream(Box::pin(FillReader::new(looker, length)));
                let (age, status) = (head.age(now), CacheStatus::forwarded(why).collapsed());
                let response = head.response(self.request(), reader, age, status);
                (head, response)
            }
            SharedAnswer::Whole { response: kept, is_validated } => {
                let validated = is_validated.then_some(StatusCode::NOT_MODIFIED);
                let status = CacheStatus::forwarded(why).received(validated).collapsed();
                let age = kept.head.age(now);
                (kept.head.clone(), kept.response(self.request(), age, status))
            }
        };
        self.used(CacheResult::Collapsed, head.freshness.map(|_| head.age(now)));
        // A failure is one for policies further out, too; a breaker knows that nobody asked.
        let is_success = head.freshness.is_some();
        Followed::Answered(Ok(if is_success { response.into_stand_in(0) } else { response }))
    }

    fn failed_too(&self, found: &CacheLookup, failure: SharedFailure) -> Outcome {
        let now = clock::now();
        if let Some(kept) = &found.response
            && kept.stands_for_failure(now)
        {
            let status = CacheStatus::forwarded(Forwarded::Stale).collapsed();
            return Ok(self.stale(kept, kept.head.age(now), StaleReason::Error, status));
        }
        self.used(CacheResult::Collapsed, None);
        Err(failure.error())
    }

    // ===== from the upstream =====

    /// Asks the upstream, and keeps nothing. What a GET has brought stands for a HEAD's failure.
    async fn pass(&self, found: &CacheLookup, why: Forwarded) -> Outcome {
        let mut outcome = self.next.run(self.call).await;
        let at = clock::now();
        if let Some(kept) = &found.response
            && !self.asked.no_store
            && kept.stands_for_failure(at)
            && self.is_failure(&mut outcome).await
        {
            return Ok(self.stand_in(outcome, kept, at, why));
        }
        self.used(CacheResult::Miss, None);
        if let Ok(response) = &mut outcome {
            CacheStatus::forwarded(why).add_to(response.headers.map_mut());
        }
        outcome
    }

    /// Asks the upstream, also for others. In a box of its own: hits have no room for it.
    fn lead<'b>(
        &'b self,
        lead: FillLead,
        why: Forwarded,
    ) -> Pin<Box<dyn Future<Output = Outcome> + 'b>> {
        Box::pin(self.ask(lead, why))
    }

    async fn ask(&self, lead: FillLead, why: Forwarded) -> Outcome {
        let mut kept = lead.found().response.clone();
        let mut sent = clock::now();
        let mut outcome = match &kept {
            // What is not for others is the client's own affair.
            None if lead.found().apart_until.is_some() => self.next.run(self.call).await,
            None => self.on_condition(&Preconditions::none()).await,
            Some(kept) => self.on_condition(&Preconditions::unless(&kept.head.headers)).await,
        };
        if let (Some(known), Ok(response)) = (&kept, &outcome)
            && is_validation(response)
            && !conditional::is_about(&known.head.headers, &response.headers)
        {
            // The upstream speaks of another response than we have.
            (kept, sent) = (None, clock::now());
            outcome = self.on_condition(&Preconditions::none()).await;
        }
        let at = clock::now();
        let arrival = ResponseArrival { delay: at - sent, at, date: self.call.wall_clock() };
        let is_failure = self.is_failure(&mut outcome).await;
        match (outcome, kept) {
            (outcome, Some(kept)) if is_failure && kept.stands_for_failure(at) => {
                lead.stand_in(&kept);
                Ok(self.stand_in(outcome, &kept, at, why))
            }
            (Err(error), _) => {
                self.used(CacheResult::Miss, None);
                // One client's fault is not that of the others.
                if error.kind().origin() != Origin::Client {
                    lead.fail(SharedFailure::of(&error));
                }
                Err(error)
            }
            (Ok(response), Some(kept)) if is_validation(&response) => {
                Ok(self.validated(lead, response, &kept, arrival, why))
            }
            (Ok(response), _) => {
                self.used(CacheResult::Miss, None);
                let is_failure = is_failure || response.is_stand_in();
                Ok(self.arrived(lead, response, is_failure, arrival, why).await)
            }
        }
    }

    async fn on_condition(&self, preconditions: &Preconditions) -> Outcome {
        let scope = self.next.scope().on_condition(preconditions);
        self.next.within(&scope).run(self.call).await
    }

    async fn is_failure(&self, outcome: &mut Outcome) -> bool {
        let asker = Asker { policy: &self.cache.name, scope: self.next.scope() };
        self.cache.handle_if.takes(self.call, asker, outcome).await.is_handled()
    }

    /// A failure that came at this time, for which something stands that is kept.
    fn stand_in(
        &self,
        outcome: Outcome,
        kept: &KeptResponse,
        at: Instant,
        why: Forwarded,
    ) -> Response {
        let received = outcome.as_ref().ok().map(|response| response.status);
        let attempt = outcome.attempt();
        outcome.discard();
        let (age, status) = (kept.head.age(at), CacheStatus::forwarded(why));
        self.stale(kept, age, StaleReason::Error, status.received(received)).into_stand_in(attempt)
    }

    /// What is kept is still valid.
    fn validated(
        &self,
        mut lead: FillLead,
        mut update: Response,
        kept: &KeptResponse,
        arrival: ResponseArrival,
        why: Forwarded,
    ) -> Response {
        let headers = conditional::updated(&kept.head.headers, update.headers.map_mut());
        let (attempt, status) = (update.attempt(), kept.head.status);
        let own = call_fields::among(update.headers.map_mut());
        Ok(update).discard();
        let stored = self.may_store(status, &headers, arrival);
        let freshness = stored.unwrap_or(Freshness::NONE);
        let head = self.head(&mut lead, status, &headers, Some(freshness), arrival);
        let response = Arc::new(kept.under(head));
        self.used(CacheResult::Revalidated, Some(response.head.age(arrival.at)));
        let told = CacheStatus::forwarded(why).received(Some(StatusCode::NOT_MODIFIED));
        let age = response.head.age(arrival.at);
        let mut answer = response.response(self.request(), age, told.stored(stored.is_ok()));
        answer.headers.map_mut().extend(own);
        answer.set_attempt(attempt);
        match stored {
            Ok(freshness) => {
                let (first, fill) = (&lead.found().first, lead.fill());
                self.cache.store.keep(first, fill, &response);
                match freshness.is_for_many() {
                    true => lead.complete(&response, true),
                    false => lead.keep_apart(),
                }
            }
            Err(reason) => self.refuse(lead, reason, false, arrival),
        }
        answer
    }
}

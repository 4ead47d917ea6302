//! Cache: keeps responses, and answers from them (RFC 9111, as a shared cache).
//!
//! **What it protects from.** Asking the upstream for what it has said already, many asking for the
//! same at once, and an upstream that is down while what it last said would do.
//!
//! **Events.** [`CacheEvent`](crate::CacheEvent).
//!
//! **Composition.** What is inside runs only when the upstream has to be asked; an answer from what
//! is kept is a success for what is outside. Outside a retry, a breaker and a timeout of attempts:
//! then what is stale can stand for what they fail with.
//!
//! A request that finds nothing of use becomes the first of a *fill* ([`fill`]), or waits for the
//! one that is. The first runs the rest of the pipeline in its own call, as every request does: its
//! limits hold, and if it is dropped before the head has come, one of those who wait takes its
//! place. From the head on the body is read by the worker ([`pump`]), whoever stays.

mod conditional;
mod control;
mod fill;
mod kept;
mod key;
mod lead;
mod pump;
mod reader;
mod room;
mod rules;
mod s3_fifo;
mod shared;
mod status;
mod store;
mod taken;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use fusebox_head::text;
use futures_util::future::LocalBoxFuture;
use http::{Method, header};
use serde::Deserialize;

use crate::boxed::boxed;
use crate::call::Call;
use crate::condition::ConditionConfig;
use crate::config::{ConfigDuration, ConfigSize, Problem, Problems};
use crate::error::ErrorKind;
use crate::event::{CacheEvent, CacheResult, EventKind, Observers, StaleReason};
use crate::key::{CallKey, KeyConfig};
use crate::native::Native;
use crate::outcome::{Outcome, Response};
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown};
use crate::scope::Scope;
use crate::slot::Slot;
use control::Directives;
use rules::Defaults;
use shared::SharedCache;
use status::{CacheStatus, Forwarded};
use store::CacheStore;
use visit::Visit;

/// `kind = "cache"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// What it takes in all, in bytes, headers included; at least twice `max_entry`.
    pub max_size: ConfigSize,
    /// The longest response that is kept, in bytes, headers included; at least 1 KiB.
    pub max_entry: ConfigSize,
    /// A part of the request by which responses are told apart, beside host, path and query.
    pub key: Option<KeyConfig>,
    /// For how long a response is fresh that does not say so; 0: such a response is not kept.
    pub default_ttl: ConfigDuration,
    /// For how long a stale response may stand for a failure, if it does not say so itself.
    pub stale_if_error: ConfigDuration,
    /// For how long a stale response may be used while it is being validated, if it does not say so
    /// itself.
    pub stale_while_revalidate: ConfigDuration,
    /// Which outcomes are failures. Default: 429, 5xx except 501, any failure.
    pub handle_if: Option<ConditionConfig>,
    /// For how long a request waits for the answer to another one.
    pub collapse_wait: ConfigDuration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_size: ConfigSize::mib(64),
            max_entry: ConfigSize::mib(1),
            key: None,
            default_ttl: ConfigDuration::from_secs(0),
            stale_if_error: ConfigDuration::from_secs(0),
            stale_while_revalidate: ConfigDuration::from_secs(0),
            handle_if: None,
            collapse_wait: ConfigDuration::from_secs(5),
        }
    }
}

/// The smallest `max_entry`: there must be room for a head.
const LEAST_ENTRY: ConfigSize = ConfigSize::kib(1);

impl PolicyConfig for CacheConfig {
    const KIND: &'static str = "cache";

    type Policy = ResponseCache;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<ResponseCache, Vec<Problem>> {
        let mut problems = Problems::default();
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::ANY_FAILURE,
            parts,
            &mut problems,
        );
        let key = self.key.map(|key| key.build("key", parts, &mut problems));
        problems.require_least(self.max_entry, LEAST_ENTRY, "max_entry");
        let least = ConfigSize(self.max_entry.0.max(LEAST_ENTRY.0).saturating_mul(2));
        problems.require(self.max_size >= least, "max_size", || {
            format!("must be at least twice max_entry, {least}, is {}", self.max_size)
        });
        for (time, key) in [
            (self.default_ttl, "default_ttl"),
            (self.stale_if_error, "stale_if_error"),
            (self.stale_while_revalidate, "stale_while_revalidate"),
            (self.collapse_wait, "collapse_wait"),
        ] {
            problems.require_time_or_zero(time, key);
        }
        problems.into_result(())?;
        let (max_size, max_entry) = (self.max_size.in_memory(), self.max_entry.in_memory());
        Ok(ResponseCache(Arc::new(SharedCache {
            name,
            key,
            handle_if,
            defaults: Defaults {
                ttl: self.default_ttl.0,
                stale_if_error: self.stale_if_error.0,
                stale_while_revalidate: self.stale_while_revalidate.0,
            },
            max_size: self.max_size,
            max_entry,
            collapse_wait: self.collapse_wait.0,
            store: CacheStore::new(max_size, max_entry),
        })))
    }
}

/// Keeps responses, and answers from them. One for all workers.
#[derive(Debug)]
pub struct ResponseCache(Arc<SharedCache>);

impl ResponseCache {
    /// A request that is not answered from what is kept.
    async fn pass(&self, call: &Call, next: Next<'_>) -> Outcome {
        let name = &self.0.name;
        call.emit(name, CacheEvent::Used { result: CacheResult::Bypass, age: None });
        let mut outcome = next.run(call).await;
        if let Ok(response) = &mut outcome {
            let is_of_cache = matches!(call.head().method, Method::GET | Method::HEAD);
            let why = if is_of_cache { Forwarded::Bypass } else { Forwarded::Method };
            let is_changed = rules::is_unsafe(&call.head().method)
                && self.invalidate(call, next.scope(), response);
            if is_changed && call.reporter().wants_details() {
                call.emit(name, CacheEvent::Invalidated);
            }
            CacheStatus::forwarded(why).add_to(response.headers.map_mut());
        }
        outcome
    }

    /// Forgets what a request has changed that succeeded (RFC 9111, section 4.4).
    fn invalidate(&self, call: &Call, scope: &Scope<'_>, response: &Response) -> bool {
        let is_success = response.status.is_success() || response.status.is_redirection();
        if !is_success || response.is_stand_in() {
            return false;
        }
        let (request, by) = (call.request(), &self.0.key_values(call, scope));
        let references = [header::LOCATION, header::CONTENT_LOCATION];
        let references = references.iter().filter_map(|name| text(response.headers.get(name)?));
        let also = references.filter_map(|reference| key::referred(request, reference, by));
        let mut was_kept = false;
        for key in [key::first(request, by)].into_iter().chain(also) {
            was_kept |= self.0.store.forget(&key);
        }
        was_kept
    }
}

/// Whether a request may be answered from what is kept.
fn is_for_cache(call: &Call) -> bool {
    // Parts are not kept, what has changed or not is the upstream's to say, and a conversation is
    // nobody else's.
    const OTHERS: [http::HeaderName; 5] = [
        header::RANGE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::UPGRADE,
    ];
    let head = call.head();
    matches!(head.method, Method::GET | Method::HEAD)
        && call.body().is_empty()
        && !head.headers.keys().any(|name| OTHERS.contains(name))
}

impl Policy for ResponseCache {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        CacheConfig::KIND
    }

    fn key(&self) -> Option<&CallKey> {
        self.0.key.as_ref()
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let store = &self.0.store;
        vec![
            ("entries", Shown::Gauge(store.entries(), "Responses that a cache keeps")),
            (
                "bytes",
                Shown::Gauge(
                    store.bytes(),
                    "Bytes of the responses that a cache keeps, with those on their way in",
                ),
            ),
            (
                "fills",
                Shown::Gauge(
                    store.filling(),
                    "Requests of a cache whose answers others wait for or read along",
                ),
            ),
        ]
    }

    fn announces(&self) -> Vec<EventKind> {
        let used = CacheResult::ALL.map(|result| CacheEvent::Used { result, age: None });
        let stale =
            StaleReason::ALL.map(|reason| CacheEvent::ServedStale { reason, age: Duration::ZERO });
        let broken = CacheEvent::Broken { kind: ErrorKind::ConnectionTerminated };
        let events = used.into_iter().chain(stale).chain([broken, CacheEvent::WaitedTooLong]);
        events.map(EventKind::from).collect()
    }

    fn commands(&self) -> &'static [&'static str] {
        &["purge"]
    }

    fn command(
        &self,
        command: &str,
        key: &[String],
        observers: &Observers,
    ) -> Result<&'static str, String> {
        if command != "purge" {
            return Err(format!("it takes no command `{command}`"));
        }
        if !key.is_empty() {
            return Err("it is purged whole, not by key".to_owned());
        }
        let entries = self.0.store.purge();
        observers.emit_for_policy(Some(&self.0.name), &CacheEvent::Purged { entries }.into());
        Ok("purged")
    }

    fn outline(&self) -> Outline<'_> {
        let SharedCache { handle_if, defaults, collapse_wait, max_size, .. } = &*self.0;
        // What responses themselves allow is not known before they come.
        let never = "nothing stale ever stands for a failure";
        let acts = Acts { on: handle_if, but_on: None, never, result: ActsResult::Same };
        let wait = ConfigDuration(*collapse_wait);
        Outline {
            acts: (!defaults.stale_if_error.is_zero()).then_some(acts),
            waits: *collapse_wait,
            waits_for_breaker: *collapse_wait,
            peeked: handle_if.peeked(),
            ..Outline::passing(format!(
                "keeps {max_size}, waiting up to {wait} for others' answers"
            ))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            if !is_for_cache(call) {
                return self.pass(call, next).await;
            }
            if let Some(key) = &self.0.key {
                key.turn(call).await;
            }
            let cache = call.handle(&self.0);
            let visit = Visit {
                cache: &cache,
                call,
                next,
                asked: Directives::of_request(&call.head().headers),
                first: key::first(call.request(), &self.0.key_values(call, next.scope())),
                is_head: call.head().method == Method::HEAD,
            };
            visit.answer().await
        })
    }
}

#[cfg(test)]
mod tests;

//! What all workers share: the kept responses, and the fills under way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::fill::Fill;
use super::kept::KeptResponse;
use super::key::{CacheKey, VaryNames};
use super::room::FillRoom;
use super::s3_fifo::{Weigh, WeighedMap};
use crate::request::Request;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// For so long nobody waits for an answer to what got one that is not for others.
pub(super) const APART: Duration = Duration::from_secs(10);

/// What anything kept takes beside what it says of itself, about.
const OVERHEAD: usize = 160;
/// What is kept under a key.
#[derive(Clone, Debug)]
enum Kept {
    Response(Arc<KeptResponse>),
    /// Responses that depend on these fields are kept under keys of their own.
    Vary(Arc<VaryNames>),
    /// Nobody waits for another one's answer before this.
    Apart(Instant),
}

impl Weigh for Kept {
    fn weight(&self, key: &CacheKey) -> usize {
        let own = match self {
            Self::Response(response) => response.weight(),
            Self::Vary(names) => names.weight(),
            Self::Apart(_) => 0,
        };
        OVERHEAD + key.len() + own
    }
}

/// The kept responses, and the fills under way.
#[derive(Debug)]
pub(super) struct CacheStore {
    kept: WeighedMap<Kept>,
    fills: Mutex<HashMap<CacheKey, Arc<Fill>>>,
    pub(super) room: FillRoom,
    /// Lists of names that have had a number.
    numbered: AtomicU64,
}

/// What is found for a request.
#[derive(Clone, Debug)]
pub(super) struct CacheLookup {
    pub(super) first: CacheKey,
    /// The key of its variant; the first one, if nothing is known of variants.
    pub(super) key: CacheKey,
    pub(super) vary: Option<Arc<VaryNames>>,
    pub(super) response: Option<Arc<KeptResponse>>,
    /// Until then each request asks by itself.
    pub(super) apart_until: Option<Instant>,
}

impl CacheLookup {
    /// Whether it is known for a while yet that answers are not for others.
    pub(super) fn stays_apart(&self, now: Instant) -> bool {
        self.apart_until.is_some_and(|until| until > now + APART / 2)
    }
}

/// What somebody has to do who found nothing of use.
#[derive(Debug)]
pub(super) enum Joined {
    /// Fill it.
    First(Arc<Fill>),
    /// Wait for who fills it.
    Other(Arc<Fill>),
    /// Look again: it was filled in this moment.
    Filled,
}

impl CacheStore {
    /// A store for `max_size` bytes in all, of which an entry takes at most `max_entry`. An eighth
    /// is for bodies under way.
    pub(super) fn new(max_size: usize, max_entry: usize) -> Self {
        let room = (max_size / 8).max(max_entry);
        Self {
            kept: WeighedMap::new(max_size - room, max_entry),
            fills: Mutex::default(),
            room: FillRoom::new(room),
            numbered: AtomicU64::new(0),
        }
    }

    fn fills(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<Fill>>> {
        // What is under the lock is whole whenever it is free.
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept for a request.
    pub(super) fn find(&self, first: &CacheKey, request: &Request, now: Instant) -> CacheLookup {
        let mut found = CacheLookup {
            first: first.clone(),
            key: first.clone(),
            vary: None,
            response: None,
            apart_until: None,
        };
        let mut kept = self.kept.get(first);
        if let Some(Kept::Vary(names)) = kept {
            found.key = names.second(first, request);
            kept = self.kept.get(&found.key);
            found.vary = Some(names);
        }
        match kept {
            Some(Kept::Response(response)) => found.response = Some(response),
            Some(Kept::Apart(until)) => found.apart_until = Some(until).filter(|it| now < *it),
            Some(Kept::Vary(_)) | None => {}
        }
        found
    }

    /// Takes part in the fill of what was not found.
    pub(super) fn join(&self, found: &CacheLookup) -> Joined {
        let mut fills = self.fills();
        let vacant = match fills.entry(found.key.clone()) {
            Entry::Occupied(fill) => return Joined::Other(fill.get().clone()),
            Entry::Vacant(vacant) => vacant,
        };
        // A fill is kept first and then removed, so whoever misses it here finds what it brought.
        let is_new = match self.kept.peek(&found.key) {
            Some(Kept::Response(response)) => {
                found.response.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &response))
            }
            Some(Kept::Vary(_)) => found.vary.is_none(),
            Some(Kept::Apart(_)) | None => false,
        };
        if is_new {
            return Joined::Filled;
        }
        Joined::First(vacant.insert(Arc::default()).clone())
    }

    /// From now on a fill is found under this key, unless what it is of has been changed.
    pub(super) fn register(&self, key: &CacheKey, fill: &Arc<Fill>) {
        let mut fills = self.fills();
        if !fill.is_outdated() {
            fills.entry(key.clone()).or_insert_with(|| fill.clone());
        }
    }

    /// A fill is over.
    pub(super) fn end(&self, key: &CacheKey, fill: &Arc<Fill>) {
        let mut fills = self.fills();
        if fills.get(key).is_some_and(|known| Arc::ptr_eq(known, fill)) {
            fills.remove(key);
        }
    }

    /// Where a response belongs that has come for what was found: the names of fields that it
    /// depends on, and its key. From now on its variants are looked for.
    pub(super) fn place(
        &self,
        found: &CacheLookup,
        fill: &Fill,
        request: &Request,
        response: &HeaderMap,
    ) -> (Option<Arc<VaryNames>>, CacheKey) {
        let names = VaryNames::of(response, self.numbered.fetch_add(1, Ordering::Relaxed));
        let _fills = self.fills();
        let known = match self.kept.peek(&found.first) {
            Some(Kept::Vary(known)) => Some(known),
            _ => None,
        };
        if let Some(before) = &found.vary
            && known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, before))
        {
            // All variants were forgotten since.
            fill.outdate();
        }
        let Some(names) = names else { return (None, found.first.clone()) };
        let names = match known.filter(|known| known.is_like(&names)) {
            Some(known) => known,
            None => {
                let names = Arc::new(names);
                self.kept.insert(found.first.clone(), Kept::Vary(names.clone()));
                names
            }
        };
        let key = names.second(&found.first, request);
        (Some(names), key)
    }

    /// Keeps a response, unless what it is of has been changed since its fill began.
    pub(super) fn keep(&self, first: &CacheKey, fill: &Fill, response: &Arc<KeptResponse>) -> bool {
        // Under the lock, so that nobody outdates it in between.
        let _fills = self.fills();
        let is_current = match &response.head.vary {
            None => true,
            Some(names) => matches!(
                self.kept.peek(first), Some(Kept::Vary(known)) if Arc::ptr_eq(&known, names)
            ),
        };
        if fill.is_outdated() || !is_current {
            return false;
        }
        self.kept.insert(response.head.key.clone(), Kept::Response(response.clone()));
        true
    }

    /// For a while nobody waits for answers to this.
    pub(super) fn set_apart(&self, key: &CacheKey, now: Instant) {
        self.kept.insert(key.clone(), Kept::Apart(now + APART));
    }

    /// Forgets what is kept under a key, and all variants. Who asks from now on has no part in what
    /// is under way. Returns whether anything was kept.
    pub(super) fn forget(&self, first: &CacheKey) -> bool {
        let mut fills = self.fills();
        if let Some(fill) = fills.remove(first) {
            fill.outdate();
        }
        let was_kept = self.kept.remove(first);
        drop(fills);
        matches!(was_kept, Some(Kept::Response(_) | Kept::Vary(_)))
    }

    /// Forgets all. Returns how many responses that were.
    pub(super) fn purge(&self) -> u64 {
        let mut fills = self.fills();
        for (_, fill) in fills.drain() {
            fill.outdate();
        }
        let entries = self.entries();
        self.kept.clear();
        entries
    }

    /// How many things are kept.
    pub(super) fn entries(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Their bytes, with those of bodies under way.
    pub(super) fn bytes(&self) -> u64 {
        (self.kept.weight() + self.room.taken()) as u64
    }

    /// Fills under way.
    pub(super) fn filling(&self) -> u64 {
        self.fills().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, StatusCode};
    use std::time::SystemTime;

    use super::super::kept::KeptHead;
    use crate::testing::call;

    /// Somebody has looked, and then been overtaken by a whole fill on another thread.
    #[test]
    fn who_comes_too_late_to_wait_looks_again_rather_than_ask() {
        loom::model(who_comes_too_late);
    }

    fn who_comes_too_late() {
        let store = CacheStore::new(1 << 20, 1 << 10);
        let call = call("1", crate::event::Observers::default());
        let (request, now) = (call.request(), Instant::now());
        let first = super::super::key::first(request, &Default::default());
        let late = store.find(&first, request, now);
        let Joined::First(fill) = store.join(&late) else { panic!("nobody fills it yet") };
        let headers = [(http::header::VARY, HeaderValue::from_static("accept"))].into_iter();
        let headers: HeaderMap = headers.collect();
        let (vary, key) = store.place(&late, &fill, request, &headers);
        let came = (now, SystemTime::UNIX_EPOCH);
        let head = KeptHead::new(StatusCode::OK, &headers, None, came, vary, key);
        let response = KeptResponse { head: head.into(), body: "a".into(), trailers: None };
        assert!(store.keep(&first, &fill, &response.into()));
        store.end(&first, &fill);
        assert!(matches!(store.join(&late), Joined::Filled));
        let found = store.find(&first, request, now);
        assert!(found.response.is_some() && matches!(store.join(&found), Joined::First(_)));
    }
}

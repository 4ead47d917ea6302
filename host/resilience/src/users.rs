//! How much of the upstreams' time each user takes. Where some requests must be rejected, those of
//! users who take most are the first.
//!
//! The time is the asked time of the last minute, in slices of 2 s. A user's place among all is
//! known from a list of theirs that is made anew with each slice, so a request costs one search. If
//! several take equally much, as when there is one user only, each of their requests gets a place
//! among them by its id: levels are spread as they would be without users.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::key::CallKey;
use crate::recent::RecentMap;
use crate::request::Request;
use crate::value_hash::ValueHashKeys;

const SLICES: usize = 30;
const SLICE: Duration = Duration::from_secs(2);

/// The times of all users.
#[derive(Debug)]
pub struct UserTimes {
    key: CallKey,
    max_users: usize,
    hashes: ValueHashKeys,
    known: Mutex<KnownUsers>,
}

/// A user's call. At its end the user has taken more.
#[derive(Debug)]
pub struct UserCall {
    times: Arc<UserTimes>,
    user: u128,
}

#[derive(Debug)]
struct KnownUsers {
    users: RecentMap<UserTime>,
    origin: Instant,
    /// The times of all users in this slice, the least first.
    listed: Vec<u64>,
    listed_in: Option<u64>,
}

/// What a user has taken in each of the last slices, in microseconds.
#[derive(Debug, Default)]
struct UserTime {
    slices: [u32; SLICES],
    newest: u64,
    total: u64,
}

impl UserTime {
    fn advance(&mut self, slice: u64) {
        let steps = slice.saturating_sub(self.newest);
        for step in 1..=steps.min(SLICES as u64) {
            let place = (self.newest + step) as usize % SLICES;
            self.total -= u64::from(std::mem::take(&mut self.slices[place]));
        }
        self.newest += steps;
    }

    fn add(&mut self, taken: Duration) {
        let taken = u32::try_from(taken.as_micros()).unwrap_or(u32::MAX);
        let place = &mut self.slices[self.newest as usize % SLICES];
        let more = taken.min(u32::MAX - *place);
        *place += more;
        self.total += u64::from(more);
    }
}

impl KnownUsers {
    fn slice(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs() / SLICE.as_secs()
    }

    /// How many users take less than this one, and how many take less or as much, of how many.
    fn rank(&mut self, user: u128, now: Instant) -> (usize, usize, usize) {
        let slice = self.slice(now);
        if self.listed_in != Some(slice) {
            self.listed_in = Some(slice);
            self.listed.clear();
            self.users.for_each_mut(|time| {
                time.advance(slice);
                self.listed.push(time.total);
            });
            self.listed.sort_unstable();
        }
        let total = self.users.get(user).map_or(0, |time| time.total);
        let less = self.listed.partition_point(|listed| *listed < total);
        let not_more = self.listed.partition_point(|listed| *listed <= total);
        (less, not_more, self.listed.len())
    }
}

impl UserTimes {
    /// `key`: whose request it is. Of so many users that were seen last the time is known.
    pub fn new(key: CallKey, max_users: usize) -> Arc<Self> {
        let known = KnownUsers {
            users: RecentMap::default(),
            origin: Instant::now(),
            listed: Vec::new(),
            listed_in: None,
        };
        let hashes = ValueHashKeys::default();
        Arc::new(Self { key, max_users, hashes, known: Mutex::new(known) })
    }

    /// Whose request it is.
    pub fn key(&self) -> &CallKey {
        &self.key
    }

    /// A call of this request's user. `None`: the request does not say whose it is.
    pub fn call(self: &Arc<Self>, request: &Request) -> Option<UserCall> {
        let mut hash = self.hashes.begin();
        let is_there = self.key.values_of(request, |value| hash.add(value));
        is_there.then(|| UserCall { times: self.clone(), user: hash.finish() })
    }

    fn known(&self) -> MutexGuard<'_, KnownUsers> {
        // It is never left half-changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserCall {
    /// The user's place among all, from 0, of those who take least, to less than 1. `chance`, the
    /// same from 0 to less than 1, decides among those who take as much.
    pub fn quantile(&self, chance: f64) -> f64 {
        let (less, not_more, count) = self.times.known().rank(self.user, clock::now());
        // Who is not in the list yet is one more of those who take as much.
        let (not_more, count) =
            if less == not_more { (not_more + 1, count + 1) } else { (not_more, count) };
        (less as f64 + chance * (not_more - less) as f64) / count as f64
    }

    /// The call has ended: its upstreams were asked for so long.
    pub fn end(self, asked: Duration) {
        let mut known = self.times.known();
        let slice = known.slice(clock::now());
        if known.users.get(self.user).is_none() {
            if known.users.len() >= self.times.max_users {
                known.users.evict(1, |_| true);
            }
            known.users.insert(self.user, UserTime { newest: slice, ..UserTime::default() });
        }
        if let Some(time) = known.users.get(self.user) {
            time.advance(slice);
            time.add(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;
    use crate::config::Problems;
    use crate::key::{KeyConfig, KeySourceConfig};

    const NAME: HeaderName = HeaderName::from_static("x-user");
    const NO_ID: HeaderValue = HeaderValue::from_static("");

    fn users(max_users: usize) -> Arc<UserTimes> {
        let key = KeyConfig(vec![KeySourceConfig::Header("x-user".into())]);
        UserTimes::new(key.of_request("user", &mut Problems::default()), max_users)
    }

    fn request(user: Option<&str>) -> Request {
        let mut head = http::Request::new(()).into_parts().0;
        head.headers.extend(user.map(|user| (NAME, user.parse().expect("a value"))));
        Request::new(NO_ID, "test".into(), head, SystemTime::UNIX_EPOCH)
    }

    fn of(users: &Arc<UserTimes>, name: &str) -> UserCall {
        users.call(&request(Some(name))).expect("a user")
    }

    fn take(users: &Arc<UserTimes>, name: &str, seconds: u64) {
        of(users, name).end(Duration::from_secs(seconds));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_more_has_a_higher_place_for_a_minute() {
        let users = users(10);
        assert!(users.call(&request(None)).is_none());
        assert_eq!(of(&users, "a").quantile(0.5), 0.5, "nobody is known");
        take(&users, "a", 1);
        take(&users, "b", 5);
        take(&users, "b", 5);
        take(&users, "c", 2);
        advance(SLICE).await;
        let places = |chance| ["a", "c", "b"].map(|name| of(&users, name).quantile(chance));
        assert_eq!(places(0.0), [0.0, 1.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(places(0.5), [0.5 / 3.0, 1.5 / 3.0, 2.5 / 3.0]);
        // Somebody new takes least of all.
        assert_eq!(of(&users, "d").quantile(0.5), 0.5 / 4.0);
        advance(SLICE * 28).await;
        take(&users, "a", 1);
        assert_eq!(places(0.0)[2], 2.0 / 3.0);
        advance(SLICE).await;
        assert_eq!(places(0.0), [2.0 / 3.0, 0.0, 0.0], "what they took was a minute ago");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_take_equally_much_share_their_places() {
        let users = users(10);
        for name in ["a", "b", "c", "d"] {
            take(&users, name, 1);
        }
        advance(SLICE).await;
        let places = [0.0, 0.25, 0.999].map(|chance| of(&users, "b").quantile(chance));
        assert_eq!(places, [0.0, 0.25, 0.999]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_seen_for_longest_is_forgotten_first() {
        let users = users(2);
        take(&users, "a", 3);
        take(&users, "b", 2);
        take(&users, "a", 3);
        take(&users, "c", 1);
        assert_eq!(users.known().users.len(), 2);
        advance(SLICE).await;
        assert_eq!(of(&users, "a").quantile(0.0), 0.5);
        assert_eq!(of(&users, "c").quantile(0.0), 0.0);
        assert_eq!(of(&users, "b").quantile(0.0), 0.0, "forgotten");
    }

    proptest! {
        /// Beside all that was ever taken.
        #[test]
        fn a_total_is_what_was_taken_in_the_last_slices(
            taken in prop::collection::vec((0..50u64, 0..9u64), 0..60),
        ) {
            let mut time = UserTime::default();
            let (mut slice, mut all) = (0, Vec::new());
            for (later, seconds) in taken {
                slice += later;
                time.advance(slice);
                time.add(Duration::from_secs(seconds));
                all.push((slice, seconds));
                let recent = all.iter().filter(|(at, _)| at + SLICES as u64 > slice);
                let micros: u64 = recent.map(|(_, seconds)| seconds * 1_000_000).sum();
                prop_assert_eq!(time.total, micros);
            }
        }
    }
}

//! Which endpoints of an upstream get no requests for now: those that have failed several times in
//! a row, and those whose checks fail.
//!
//! A pure machine for all endpoints of an upstream: time is passed in, what has changed is
//! returned.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::tier::{TierCount, TierInUse};
use crate::config::HealthConfig;

/// So many checks in a row decide.
const CHECKS: u32 = 2;

/// The endpoints of an upstream.
#[derive(Debug)]
pub(super) struct FleetHealth {
    config: HealthConfig,
    /// By tier.
    endpoints: Vec<EndpointHealth>,
}

#[derive(Clone, Debug, Default)]
struct EndpointHealth {
    tier: u16,
    /// In a row.
    failures: u32,
    /// Those without a time in between that was as long as the last one.
    ejections: u32,
    ejected: Option<Ejection>,
    /// When the last ejection ended, and how long it was. One failure before the first success, and
    /// it is ejected again.
    returned: Option<(Instant, Duration)>,
    is_on_trial: bool,
    /// Checks in a row that contradict what is held of it.
    checks: u32,
    /// What its checks say.
    is_down: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    until: Instant,
    time: Duration,
}

/// What has changed for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// It is ejected.
    Ejected {
        /// After so many failures in a row.
        failures: u32,
        /// For so long.
        time: Duration,
    },
    /// Its ejection is over.
    Returned,
    /// Its checks fail.
    Down,
    /// Its checks pass again.
    Up,
}

impl EndpointHealth {
    fn is_out(&self) -> bool {
        self.ejected.is_some() || self.is_down
    }
}

impl FleetHealth {
    /// Endpoints of these tiers, the first ones first.
    pub(super) fn new(config: HealthConfig, tiers: impl IntoIterator<Item = u16>) -> Self {
        let new = |tier| EndpointHealth { tier, ..EndpointHealth::default() };
        Self { config, endpoints: tiers.into_iter().map(new).collect() }
    }

    /// The endpoints are others now, of these tiers: for each, the place that it had. `None`: it is
    /// new.
    pub(super) fn replace(&mut self, places: impl IntoIterator<Item = (Option<usize>, u16)>) {
        let mut take = |place: usize| self.endpoints.get_mut(place).map(mem::take);
        let taken = places.into_iter().map(|(place, tier)| {
            let known = place.and_then(&mut take).unwrap_or_default();
            EndpointHealth { tier, ..known }
        });
        self.endpoints = taken.collect();
    }

    /// Whether this endpoint gets no requests.
    pub(super) fn is_out(&self, place: usize) -> bool {
        self.endpoints[place].is_out()
    }

    /// The tier that gets requests. `None`: there are no endpoints.
    pub(super) fn tier_in_use(&self) -> Option<TierInUse> {
        let tiers = self.endpoints.chunk_by(|one, next| one.tier == next.tier);
        TierInUse::among(tiers.map(|of| {
            let are_out = of.iter().map(EndpointHealth::is_out);
            TierCount::of(of[0].tier, are_out)
        }))
    }

    /// Whether a success would change something.
    pub(super) fn is_suspect(&self, place: usize) -> bool {
        let EndpointHealth { failures, is_on_trial, .. } = self.endpoints[place];
        failures > 0 || is_on_trial
    }

    /// Whether it has come back from an ejection, and has not answered well yet.
    pub(super) fn is_on_trial(&self, place: usize) -> bool {
        self.endpoints[place].is_on_trial
    }

    /// An attempt has failed there.
    pub(super) fn failed(&mut self, place: usize, now: Instant) -> Option<HealthChange> {
        let endpoint = &mut self.endpoints[place];
        if endpoint.ejected.is_some() || self.config.consecutive == 0 {
            // It was under way, or all are used.
            return None;
        }
        endpoint.failures += 1;
        let is_enough = endpoint.is_on_trial || endpoint.failures >= self.config.consecutive;
        if !is_enough || !self.may_eject(place) {
            return None;
        }
        let endpoint = &mut self.endpoints[place];
        let long_ago = |(returned, time)| now.saturating_duration_since(returned) >= time;
        if endpoint.returned.is_none_or(long_ago) {
            endpoint.ejections = 0;
        }
        let factor = 2u32.saturating_pow(endpoint.ejections);
        let (base, max) = (self.config.base.0, self.config.max.0);
        let time = base.saturating_mul(factor).min(max);
        endpoint.ejections += 1;
        endpoint.ejected = Some(Ejection { until: now + time, time });
        Some(HealthChange::Ejected { failures: mem::take(&mut endpoint.failures), time })
    }

    /// Whether others can do without it. A tier may be ejected as a whole while one behind it takes
    /// over; else there is a bound to it.
    fn may_eject(&self, place: usize) -> bool {
        let tier = self.endpoints[place].tier;
        if self.endpoints.iter().any(|it| it.tier > tier && !it.is_out()) {
            return true;
        }
        let of_tier = self.endpoints.iter().filter(|it| it.tier == tier);
        let (count, ejected) = of_tier.fold((0, 0), |(count, ejected), it| {
            (count + 1, ejected + usize::from(it.ejected.is_some()))
        });
        // The only one gets all requests anyway.
        let is_only = count == 1 && !self.endpoints.iter().any(|it| it.tier < tier && !it.is_out());
        let most = count * self.config.max_ejection_percent as usize / 100;
        !is_only && ejected < most.max(1)
    }

    /// An attempt has been answered there.
    pub(super) fn succeeded(&mut self, place: usize) {
        let endpoint = &mut self.endpoints[place];
        endpoint.failures = 0;
        // What was under way before says nothing of the time after.
        endpoint.is_on_trial &= endpoint.ejected.is_some();
    }

    /// A check has passed, or failed.
    pub(super) fn checked(&mut self, place: usize, has_passed: bool) -> Option<HealthChange> {
        let endpoint = &mut self.endpoints[place];
        if has_passed != endpoint.is_down {
            endpoint.checks = 0;
            return None;
        }
        endpoint.checks += 1;
        if endpoint.checks < CHECKS {
            return None;
        }
        endpoint.checks = 0;
        endpoint.is_down = !has_passed;
        Some(if has_passed { HealthChange::Up } else { HealthChange::Down })
    }

    /// The next endpoint whose ejection is over.
    pub(super) fn return_one(&mut self, now: Instant) -> Option<usize> {
        let is_over = |it: &EndpointHealth| it.ejected.is_some_and(|it| it.until <= now);
        let place = self.endpoints.iter().position(is_over)?;
        self.end_ejection(place, now).then_some(place)
    }

    /// Ends the ejection of this endpoint, whose next failure will begin another one. `false`: it
    /// is not ejected.
    pub(super) fn end_ejection(&mut self, place: usize, now: Instant) -> bool {
        let endpoint = &mut self.endpoints[place];
        let Some(Ejection { time, .. }) = endpoint.ejected.take() else { return false };
        endpoint.returned = Some((now, time));
        endpoint.is_on_trial = true;
        true
    }

    /// When the next one returns.
    pub(super) fn next_return(&self) -> Option<Instant> {
        self.endpoints.iter().filter_map(|it| it.ejected).map(|ejection| ejection.until).min()
    }

    /// How much longer it is ejected.
    pub(super) fn remaining(&self, place: usize, now: Instant) -> Option<Duration> {
        let ejection = self.endpoints[place].ejected?;
        Some(ejection.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn fleet(endpoints: usize) -> FleetHealth {
        in_tiers(vec![0; endpoints])
    }

    fn in_tiers(tiers: impl IntoIterator<Item = u16>) -> FleetHealth {
        FleetHealth::new(HealthConfig::default(), tiers)
    }

    fn out(fleet: &FleetHealth) -> usize {
        fleet.endpoints.iter().filter(|it| it.is_out()).count()
    }

    /// It fails until it is ejected, or ten times.
    fn fails(fleet: &mut FleetHealth, place: usize) -> bool {
        fails_at(fleet, place, Instant::now())
    }

    fn fails_at(fleet: &mut FleetHealth, place: usize, now: Instant) -> bool {
        (0..10).any(|_| fleet.failed(place, now).is_some())
    }

    fn ejected(failures: u32, seconds: u32) -> Option<HealthChange> {
        Some(HealthChange::Ejected { failures, time: seconds * S })
    }

    #[test]
    fn five_failures_in_a_row_eject_for_longer_each_time() {
        let mut fleet = fleet(2);
        let mut now = Instant::now();
        for _ in 0..4 {
            assert_eq!(fleet.failed(0, now), None);
        }
        fleet.succeeded(0);
        for _ in 0..4 {
            assert_eq!(fleet.failed(0, now), None);
        }
        assert_eq!(fleet.failed(0, now), ejected(5, 5));
        assert_eq!((fleet.is_out(0), fleet.is_out(1), out(&fleet)), (true, false, 1));
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(fleet.next_return(), Some(now + seconds * S));
            assert_eq!(fleet.return_one(now + seconds * S - S / 2), None);
            now += seconds * S;
            assert_eq!((fleet.return_one(now), fleet.return_one(now)), (Some(0), None));
            assert!(!fleet.is_out(0) && fleet.is_suspect(0));
            let next = (seconds * 2).min(300);
            assert_eq!(fleet.failed(0, now), ejected(1, next), "one failure is enough now");
        }
    }

    #[test]
    fn a_success_ends_the_trial_and_a_good_time_forgets_the_ejections() {
        let mut fleet = fleet(2);
        let mut now = Instant::now();
        for seconds in [5, 10] {
            for _ in 0..4 {
                assert_eq!(fleet.failed(0, now), None);
            }
            assert_eq!(fleet.failed(0, now), ejected(5, seconds));
            fleet.succeeded(0);
            now += seconds * S;
            assert_eq!(fleet.return_one(now), Some(0));
            assert!(fleet.is_suspect(0), "what was under way is no proof");
            fleet.succeeded(0);
            assert!(!fleet.is_suspect(0));
        }
        now += 10 * S;
        let changes: Vec<_> = (0..5).map(|_| fleet.failed(0, now)).collect();
        assert_eq!(changes[4], ejected(5, 5));
    }

    #[test]
    fn at_most_half_are_ejected_but_always_one() {
        for (endpoints, most) in [(2, 1), (3, 1), (4, 2), (10, 5)] {
            let mut fleet = fleet(endpoints);
            for place in 0..endpoints {
                for _ in 0..9 {
                    fleet.failed(place, Instant::now());
                }
            }
            assert_eq!(out(&fleet), most, "of {endpoints}");
        }
    }

    #[test]
    fn two_checks_in_a_row_decide() {
        let mut fleet = fleet(2);
        let checks = [false, true, false, false, false, true, false, true, true, true];
        let changes: Vec<_> = checks.map(|passed| fleet.checked(1, passed)).into();
        let mut expected = vec![None; 10];
        (expected[3], expected[8]) = (Some(HealthChange::Down), Some(HealthChange::Up));
        assert_eq!(changes, expected);
    }

    #[test]
    fn an_ejection_that_is_ended_early_is_one_that_the_next_is_longer_than() {
        let (mut fleet, now) = (fleet(2), Instant::now());
        assert!(!fleet.end_ejection(0, now));
        for _ in 0..5 {
            fleet.failed(0, now);
        }
        assert!(fleet.end_ejection(0, now + S));
        assert_eq!((out(&fleet), fleet.is_suspect(0), fleet.next_return()), (0, true, None));
        assert_eq!(fleet.failed(0, now + 2 * S), ejected(1, 10));
    }

    #[test]
    fn who_stays_keeps_what_is_known_of_him() {
        let (mut fleet, now) = (fleet(4), Instant::now());
        for place in [1, 1, 1, 1, 1, 3, 3, 3, 3] {
            fleet.failed(place, now);
        }
        fleet.replace([Some(3), None, Some(1), None, Some(0)].map(|place| (place, 0)));
        let is_out: Vec<bool> = (0..5).map(|place| fleet.is_out(place)).collect();
        assert_eq!(is_out, [false, false, true, false, false]);
        assert_eq!(fleet.failed(0, now), ejected(5, 5));
        assert_eq!((fleet.failed(1, now), fleet.is_suspect(1)), (None, true));
        fleet.replace([(None, 0), (None, 0)]);
        assert_eq!((out(&fleet), fleet.next_return()), (0, None));
        for _ in 0..4 {
            assert_eq!(fleet.failed(1, now), None);
        }
        assert_eq!(fleet.failed(1, now), ejected(5, 5), "those that have gone are not counted");
    }

    #[test]
    fn the_only_one_is_not_ejected() {
        let (mut fleet, now) = (fleet(2), Instant::now());
        fleet.replace([(Some(0), 0)]);
        let changes: Vec<_> = (0..9).map(|_| fleet.failed(0, now)).collect();
        assert_eq!(changes, [None; 9]);
        fleet.replace([(Some(0), 0), (None, 0)]);
        assert_eq!(fleet.failed(0, now), ejected(10, 5), "now there is another");
    }

    #[test]
    fn a_tier_is_ejected_as_a_whole_only_while_one_behind_takes_over() {
        let mut fleet = in_tiers([0, 0, 0, 1, 1]);
        assert!((0..3).all(|place| fails(&mut fleet, place)));
        assert_eq!(fleet.tier_in_use().map(|it| (it.of.tier, it.are_all_used)), Some((1, false)));
        assert!(fails(&mut fleet, 3) && !fails(&mut fleet, 4), "half of the last one");

        // Nobody can take over from the first tier: its bound holds.
        let mut fleet = in_tiers([0, 0, 1]);
        assert!(fleet.checked(2, false).is_none() && fleet.checked(2, false).is_some());
        assert!(fails(&mut fleet, 0) && !fails(&mut fleet, 1));
    }

    #[test]
    fn the_last_that_is_in_is_not_ejected() {
        let mut fleet = in_tiers([0, 1]);
        assert!(fails(&mut fleet, 0) && !fails(&mut fleet, 1));
        let mut fleet = in_tiers([0, 1]);
        assert!(fails(&mut fleet, 1) && !fails(&mut fleet, 0));
        fleet.return_one(Instant::now() + 5 * S);
        assert!(fails(&mut fleet, 0), "now there is another");
    }

    proptest! {
        #[test]
        fn somebody_is_always_in_but_for_checks(
            tiers in prop::collection::vec(0u16..4, 1..8),
            steps in prop::collection::vec((0usize..8, 0u64..20_000), 1..200),
        ) {
            let mut tiers = tiers;
            tiers.sort_unstable();
            let count = tiers.len();
            let mut fleet = in_tiers(tiers.clone());
            let mut now = Instant::now();
            for (place, pause) in steps {
                now += Duration::from_millis(pause);
                while fleet.return_one(now).is_some() {}
                fails_at(&mut fleet, place % count, now);
                let first = (0..count).find(|place| !fleet.is_out(*place));
                let in_use = fleet.tier_in_use().map(|it| it.of.tier);
                prop_assert_eq!(in_use, first.map(|place| tiers[place]), "{:?}", fleet);
            }
        }

        /// Whatever happens: not too many are out, nobody for too long, and all come back.
        #[test]
        fn nobody_stays_out_for_longer_than_the_longest_time(
            steps in prop::collection::vec((0usize..6, 0u8..4, 0u64..20_000), 1..300),
        ) {
            let mut fleet = fleet(6);
            let mut now = Instant::now();
            for (place, step, pause) in steps {
                now += Duration::from_millis(pause);
                while fleet.return_one(now).is_some() {}
                if step == 0 {
                    fleet.succeeded(place);
                } else {
                    fleet.failed(place, now);
                }
                prop_assert!(out(&fleet) <= 3);
                prop_assert!(fleet.next_return().is_none_or(|next| next > now));
                let remaining = (0..6).filter_map(|it| fleet.remaining(it, now)).max();
                prop_assert!(remaining <= Some(300 * S));
            }
            now += 300 * S;
            while fleet.return_one(now).is_some() {}
            prop_assert_eq!(out(&fleet), 0);
        }
    }
}

//! Which tier of an upstream's endpoints gets requests: the first that has an endpoint that is in.
//!
//! As long as one is left it gets all of them, as with the backup servers of nginx and HAProxy,
//! where Envoy shares them by degrees. Who sees traffic move then knows why, and a tier that breaks
//! under the load is ejected, and the next one takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use fusebox_resilience::EndpointEvent;

/// How many of a tier's endpoints get no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TierCount {
    pub(super) tier: u16,
    pub(super) out: usize,
    pub(super) count: usize,
}

impl TierCount {
    /// Of these endpoints of a tier, one at least, those that get none.
    pub(super) fn of(tier: u16, are_out: impl Iterator<Item = bool>) -> Self {
        let none = Self { tier, out: 0, count: 0 };
        are_out.fold(none, |Self { tier, out, count }, is_out| Self {
            tier,
            out: out + usize::from(is_out),
            count: count + 1,
        })
    }

    fn has_some_in(&self) -> bool {
        self.out < self.count
    }
}

/// The tier that gets the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TierInUse {
    pub(super) of: TierCount,
    /// Whether there is none in front.
    is_first: bool,
    /// Whether there is no other.
    is_only: bool,
    /// Whether it uses those of its endpoints too that are out: more than half are, and no tier
    /// behind can take over.
    pub(super) are_all_used: bool,
}

impl TierInUse {
    /// Of these tiers, the first ones first. If nobody is in anywhere it is the first. `None`:
    /// there are no endpoints.
    pub(super) fn among(tiers: impl Iterator<Item = TierCount>) -> Option<Self> {
        let mut tiers = tiers.peekable();
        let first = tiers.next()?;
        let is_only = tiers.peek().is_none();
        let found = Some(first).filter(TierCount::has_some_in);
        let of = found.or_else(|| tiers.find(TierCount::has_some_in)).unwrap_or(first);
        let can_others = tiers.any(|tier| tier.has_some_in());
        let is_first = of.tier == first.tier;
        Some(Self { of, is_first, is_only, are_all_used: 2 * of.out > of.count && !can_others })
    }

    /// From now on all of its endpoints are used, or only those that are in.
    pub(super) fn told(&self, are_all_used: bool, upstream: &str) -> EndpointEvent {
        let TierCount { tier, out, count } = self.of;
        let (upstream, tier) = (upstream.into(), (!self.is_only).then_some(tier));
        match are_all_used {
            true => EndpointEvent::AllUsed { upstream, tier, out, count },
            false => EndpointEvent::SomeUsed { upstream, tier, out, count },
        }
    }
}

/// The tier in use as all workers know it: each choice that meets an endpoint that is out reads it.
#[derive(Debug)]
pub(super) struct KnownTier(AtomicU32);

impl KnownTier {
    pub(super) fn new(tier: Option<TierInUse>) -> Self {
        Self(pack(tier.map(|tier| (tier.of.tier, tier.are_all_used))).into())
    }

    /// `None`: there are no endpoints.
    pub(super) fn get(&self) -> Option<u16> {
        unpack(self.0.load(Relaxed)).map(|(tier, _)| tier)
    }

    /// Whether it is this one, and uses those that are out, too.
    pub(super) fn uses_all_of(&self, tier: u16) -> bool {
        self.0.load(Relaxed) == pack(Some((tier, true)))
    }

    /// From now on it is this one. Returns what has changed for this upstream.
    pub(super) fn set(&self, now: Option<TierInUse>, upstream: &str) -> Vec<EndpointEvent> {
        let known = now.map(|tier| (tier.of.tier, tier.are_all_used));
        let before = unpack(self.0.swap(pack(known), Relaxed));
        let (Some(now), Some((from, were_all_used))) = (now, before) else { return Vec::new() };
        let to = now.of.tier;
        let is_other = from != to;
        // Where the tiers themselves are others, there may be none in front, or no other at all.
        let has_moved = is_other && !now.is_only && !(now.is_first && from < to);
        let moved =
            has_moved.then(|| EndpointEvent::TierUsed { upstream: Arc::from(upstream), from, to });
        let has_changed = now.are_all_used != were_all_used || now.are_all_used && is_other;
        moved.into_iter().chain(has_changed.then(|| now.told(now.are_all_used, upstream))).collect()
    }
}

fn pack(known: Option<(u16, bool)>) -> u32 {
    known.map_or(0, |(tier, are_all_used)| (u32::from(tier) + 1) << 1 | u32::from(are_all_used))
}

fn unpack(packed: u32) -> Option<(u16, bool)> {
    let tier = u16::try_from((packed >> 1).checked_sub(1)?).ok()?;
    Some((tier, packed & 1 == 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn among(tiers: &[(usize, usize)]) -> Option<(u16, bool)> {
        let tiers = (0..).zip(tiers).map(|(tier, (out, count))| TierCount {
            tier,
            out: *out,
            count: *count,
        });
        TierInUse::among(tiers).map(|tier| (tier.of.tier, tier.are_all_used))
    }

    #[test]
    fn the_first_tier_that_has_one_in_is_used() {
        for (tiers, expected) in [
            (&[][..], None),
            (&[(0, 1)], Some((0, false))),
            (&[(1, 2)], Some((0, false))),
            (&[(2, 3)], Some((0, true))),
            (&[(2, 3), (0, 1)], Some((0, false))),
            (&[(2, 3), (1, 1)], Some((0, true))),
            (&[(3, 3), (0, 1)], Some((1, false))),
            (&[(3, 3), (2, 3)], Some((1, true))),
            (&[(3, 3), (2, 3), (1, 2)], Some((1, false))),
            (&[(3, 3), (1, 1), (1, 2)], Some((2, false))),
            (&[(3, 3), (1, 1)], Some((0, true))),
        ] {
            assert_eq!(among(tiers), expected, "{tiers:?}");
        }
    }

    #[test]
    fn what_has_changed_is_told_once() {
        let tier = |tier, out, other_is_in: bool| {
            let other = TierCount { tier: tier + 1, out: usize::from(!other_is_in), count: 1 };
            TierInUse::among([TierCount { tier, out, count: 3 }, other].into_iter())
        };
        let known = KnownTier::new(None);
        let set = |to| known.set(to, "b");
        assert_eq!(set(tier(0, 1, true)), [], "it begins");
        assert_eq!(set(tier(0, 2, true)), []);
        let (upstream, tier_0) = (Arc::from("b"), Some(0));
        let all = EndpointEvent::AllUsed { upstream, tier: tier_0, out: 2, count: 3 };
        assert_eq!(set(tier(0, 2, false)), [all]);
        assert!(known.uses_all_of(0) && !known.uses_all_of(1));
        assert_eq!(set(tier(0, 2, false)), []);
        let moved = |from, to| EndpointEvent::TierUsed { upstream: "b".into(), from, to };
        let (upstream, tier_1) = (Arc::from("b"), Some(1));
        let some = EndpointEvent::SomeUsed { upstream, tier: tier_1, out: 0, count: 1 };
        assert_eq!(set(tier(0, 3, true)), [moved(0, 1), some]);
        assert_eq!(known.get(), Some(1));
        assert_eq!(set(tier(0, 2, true)), [moved(1, 0)]);
        assert_eq!(set(tier(5, 0, true)), [], "those in front are gone");
        let only = |tier| TierInUse::among([TierCount { tier, out: 0, count: 1 }].into_iter());
        assert_eq!([set(only(9)), set(only(3))], [[], []], "its only one has another number");
        assert_eq!((set(None), known.get()), (vec![], None));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(tier: u16, are_all_used: bool) {
            let known = Some((tier, are_all_used));
            prop_assert_eq!(unpack(pack(known)), known);
        }
    }
}

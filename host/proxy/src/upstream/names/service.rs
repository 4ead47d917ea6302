//! What is known of a service: who offers it, by its records (RFC 2782).
//!
//! Those of each priority are a tier, and share its requests by their weights.

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::merge::{KnownFamilies, MergedAnswers};
use super::resolver::{Resolver, ServiceOffer};
use crate::config::{EndpointConfig, EndpointUrl};

/// So many hosts are looked up at once.
const AT_ONCE: usize = 8;
/// The largest weight of an endpoint.
const MOST: u32 = 100;

/// Those who offer a service, by host and port.
#[derive(Debug, Default)]
pub(super) struct KnownService(BTreeMap<(String, u16), KnownOffer>);

/// One who offers a service: its tier, its share of what that gets, and its addresses.
#[derive(Debug, Default)]
struct KnownOffer {
    tier: u16,
    weight: u32,
    addresses: KnownFamilies,
}

impl KnownService {
    /// Looks it up, and each host that offers it.
    pub(super) async fn look_up(&mut self, resolver: &Resolver, name: &str) -> MergedAnswers {
        let (offers, good_for) = match resolver.offers(name).await {
            Ok((offers, good_for)) => (usable(offers), good_for),
            Err(problem) => return MergedAnswers::failed(problem),
        };
        if offers.is_empty() {
            return MergedAnswers::failed("the service is not offered".to_owned());
        }
        let look_up = async |(weight, offer): (u32, ServiceOffer)| {
            let answers = resolver.look_up(&offer.host).await;
            (weight, offer, answers)
        };
        let weights: Vec<_> = shares(&offers).collect();
        let offers = stream::iter(weights.into_iter().zip(offers));
        let looked_up: Vec<_> = offers.map(look_up).buffer_unordered(AT_ONCE).collect().await;
        let mut old = std::mem::take(&mut self.0);
        let mut all = MergedAnswers { has_some: false, problem: None, good_for };
        for (weight, ServiceOffer { priority: tier, host, port, .. }, answers) in looked_up {
            let key = (host, port);
            let mut addresses = old.remove(&key).unwrap_or_default().addresses;
            let merged = addresses.merge(answers);
            all.has_some |= merged.has_some;
            all.problem = all.problem.or(merged.problem);
            all.good_for = all.good_for.min(merged.good_for);
            self.0.insert(key, KnownOffer { tier, weight, addresses });
        }
        if !all.has_some {
            // Nothing changes.
            self.0.extend(old);
        }
        all.bounded()
    }

    /// Where it is offered, each address once, in the first tier that has it.
    pub(super) fn endpoints(&self, url: &EndpointUrl) -> Vec<EndpointConfig> {
        let all = self.0.iter().flat_map(|((_, port), KnownOffer { tier, weight, addresses })| {
            let (tier, weight) = (*tier, *weight);
            let at = move |ip| EndpointConfig { url: url.offered_at(ip, *port), weight, tier };
            addresses.addresses().map(at)
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|endpoint| endpoint.tier);
        let mut seen = HashSet::new();
        all.retain(|endpoint| seen.insert(endpoint.url.url.clone()));
        all
    }
}

/// Those that lead somewhere, by priority, each host and port once. A root for a host says that
/// there is none.
fn usable(mut offers: Vec<ServiceOffer>) -> Vec<ServiceOffer> {
    offers.retain(|offer| offer.host != "." && offer.port != 0);
    offers.sort_by_key(|offer| offer.priority);
    let mut seen = HashSet::new();
    offers.retain(|offer| seen.insert((offer.host.clone(), offer.port)));
    offers
}

/// The weights of these, which are in the order of their priorities, in small numbers: turns are
/// shared in rounds, as many as the largest of a tier.
fn shares(offers: &[ServiceOffer]) -> impl Iterator<Item = u32> {
    let tiers = offers.chunk_by(|one, next| one.priority == next.priority);
    tiers.flat_map(shares_of_tier)
}

/// A weight of 0 is a very small one, unless all are.
fn shares_of_tier(offers: &[ServiceOffer]) -> impl Iterator<Item = u32> {
    let weights = offers.iter().map(|offer| offer.weight);
    let heaviest = weights.clone().max().unwrap_or_default();
    let divisor = weights.clone().fold(0, common_divisor);
    let are_small =
        weights.clone().all(|it| it > 0) && u32::from(heaviest / divisor.max(1)) <= MOST;
    weights.map(move |weight| match (u32::from(weight), heaviest) {
        (_, 0) => 1,
        (weight, _) if are_small => weight / u32::from(divisor),
        (weight, heaviest) => (weight * MOST / u32::from(heaviest)).max(1),
    })
}

fn common_divisor(one: u16, other: u16) -> u16 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::merge::FamilyAnswer;
    use super::*;

    fn offer(priority: u16, weight: u16, host: &str) -> ServiceOffer {
        ServiceOffer { priority, weight, host: host.to_owned(), port: 80 }
    }

    #[test]
    fn offers_are_by_priority_and_a_root_is_nobody() {
        let offers =
            vec![offer(2, 9, "c."), offer(1, 1, "a."), offer(0, 1, "."), offer(2, 1, "a.")];
        assert_eq!(usable(offers), [offer(1, 1, "a."), offer(2, 9, "c.")]);
        assert_eq!(usable(vec![offer(0, 0, ".")]), []);
        let nowhere = ServiceOffer { port: 0, ..offer(0, 1, "a.") };
        assert_eq!(usable(vec![nowhere, offer(7, 1, "b.")]), [offer(7, 1, "b.")]);
    }

    #[test]
    fn weights_become_small_in_each_tier_and_nobody_is_left_out() {
        let shares = |weights: &[(u16, u16)]| {
            let offers = weights.iter().map(|(priority, weight)| offer(*priority, *weight, "a."));
            shares(&offers.collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let of_one = |weights: [u16; 3]| shares(&weights.map(|weight| (1, weight)));
        assert_eq!(of_one([0, 0, 0]), [1, 1, 1]);
        assert_eq!(of_one([10, 20, 30]), [1, 2, 3]);
        assert_eq!(of_one([10, 20, 0]), [50, 100, 1]);
        assert_eq!(of_one([65_535, 1, 32_768]), [100, 1, 50]);
        assert_eq!(shares(&[(1, 10), (1, 20), (2, 7), (3, 0), (3, 5)]), [1, 2, 1, 1, 100]);
    }

    #[test]
    fn an_address_in_two_tiers_is_in_the_first() {
        let mut known = KnownService::default();
        for (tier, host) in [(20, "a."), (10, "b.")] {
            let mut addresses = KnownFamilies::default();
            addresses.merge([
                FamilyAnswer::Some {
                    addresses: vec!["10.0.0.1".parse().unwrap()],
                    good_for: Duration::ZERO,
                },
                FamilyAnswer::None(String::new()),
            ]);
            known.0.insert((host.to_owned(), 80), KnownOffer { tier, weight: 1, addresses });
        }
        let url = EndpointUrl::parse("http://_http._tcp.b").unwrap();
        let endpoints = known.endpoints(&url);
        assert_eq!(endpoints.iter().map(|it| it.tier).collect::<Vec<_>>(), [10]);
    }
}

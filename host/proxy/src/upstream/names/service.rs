//! What is known of a service: who offers it, by its records (RFC 2782).
//!
//! Those with the lowest priority number are used, by their weights. The others are what a name
//! server has in reserve: they are used when it takes the first ones away.

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

/// Those who offer a service, by host and port, and what is known of each.
#[derive(Debug, Default)]
pub(super) struct KnownService(BTreeMap<(String, u16), (u32, KnownFamilies)>);

impl KnownService {
    /// Looks it up, and each host that offers it.
    pub(super) async fn look_up(&mut self, resolver: &Resolver, name: &str) -> MergedAnswers {
        let (offers, good_for) = match resolver.offers(name).await {
            Ok((offers, good_for)) => (best(offers), good_for),
            Err(problem) => return MergedAnswers::failed(problem),
        };
        if offers.is_empty() {
            return MergedAnswers::failed("the service is not offered".to_owned());
        }
        let look_up = |offer: ServiceOffer| async {
            let answers = resolver.look_up(&offer.host).await;
            (offer, answers)
        };
        let looked_up: Vec<_> =
            stream::iter(offers).map(look_up).buffer_unordered(AT_ONCE).collect().await;
        let mut old = std::mem::take(&mut self.0);
        let mut all = MergedAnswers { has_some: false, problem: None, good_for };
        let weights: Vec<_> = looked_up.iter().map(|(offer, _)| offer.weight).collect();
        let weights = shares(&weights);
        for (weight, (ServiceOffer { host, port, .. }, answers)) in weights.zip(looked_up) {
            let key = (host, port);
            let (_, mut known) = old.remove(&key).unwrap_or_default();
            let merged = known.merge(answers);
            all.has_some |= merged.has_some;
            all.problem = all.problem.or(merged.problem);
            all.good_for = all.good_for.min(merged.good_for);
            self.0.insert(key, (weight, known));
        }
        if !all.has_some {
            // Nothing changes.
            self.0.extend(old);
        }
        all.bounded()
    }

    /// Where it is offered, each address once.
    pub(super) fn endpoints(&self, url: &EndpointUrl) -> Vec<EndpointConfig> {
        let mut seen = HashSet::new();
        let all = self.0.iter().flat_map(|((_, port), (weight, known))| {
            let at = |ip| EndpointConfig { url: url.offered_at(ip, *port), weight: *weight };
            known.addresses().map(at)
        });
        all.filter(|endpoint| seen.insert(endpoint.url.url.clone())).collect()
    }
}

/// Those of the lowest priority number. A root for a host says that there is none.
fn best(mut offers: Vec<ServiceOffer>) -> Vec<ServiceOffer> {
    offers.retain(|offer| offer.host != "." && offer.port != 0);
    let best = offers.iter().map(|offer| offer.priority).min();
    offers.retain(|offer| Some(offer.priority) == best);
    offers
}

/// The same weights in small numbers: turns are shared in rounds, as many as the largest. A weight
/// of 0 is a very small one, unless all are.
fn shares(weights: &[u16]) -> impl Iterator<Item = u32> {
    let heaviest = weights.iter().copied().max().unwrap_or_default();
    let divisor = weights.iter().copied().fold(0, common_divisor);
    let are_small = !weights.contains(&0) && u32::from(heaviest / divisor.max(1)) <= MOST;
    weights.iter().map(move |weight| match (u32::from(*weight), heaviest) {
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
    use super::*;

    fn offer(priority: u16, weight: u16, host: &str) -> ServiceOffer {
        ServiceOffer { priority, weight, host: host.to_owned(), port: 80 }
    }

    #[test]
    fn the_lowest_number_goes_first_and_a_root_is_nobody() {
        let offers =
            vec![offer(2, 9, "c."), offer(1, 1, "a."), offer(1, 3, "b."), offer(0, 1, ".")];
        assert_eq!(best(offers), [offer(1, 1, "a."), offer(1, 3, "b.")]);
        assert_eq!(best(vec![offer(0, 0, ".")]), []);
        let nowhere = ServiceOffer { port: 0, ..offer(0, 1, "a.") };
        assert_eq!(best(vec![nowhere, offer(7, 1, "b.")]), [offer(7, 1, "b.")]);
    }

    #[test]
    fn weights_become_small_and_nobody_is_left_out() {
        let shares = |weights: [u16; 3]| shares(&weights).collect::<Vec<_>>();
        assert_eq!(shares([0, 0, 0]), [1, 1, 1]);
        assert_eq!(shares([10, 20, 30]), [1, 2, 3]);
        assert_eq!(shares([10, 20, 0]), [50, 100, 1]);
        assert_eq!(shares([65_535, 1, 32_768]), [100, 1, 50]);
    }
}

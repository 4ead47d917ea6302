//! What is known of a name, and what the next answers make of it.

use std::net::IpAddr;
use std::time::Duration;

/// Answers are good for so long at least,
const SHORTEST: Duration = Duration::from_secs(1);
/// and at most.
const LONGEST: Duration = Duration::from_secs(300);

/// What was answered for one of the two families of addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FamilyAnswer {
    /// These addresses, one at least, which are good for so long.
    Some { addresses: Vec<IpAddr>, good_for: Duration },
    /// There are none, in these words.
    None(String),
    /// There is no answer, in these words.
    Failed(String),
}

/// The addresses of a name, IPv4 and IPv6, as they are known. An answer has no more than 64 KiB,
/// and so a few thousand.
#[derive(Debug, Default)]
pub(super) struct KnownFamilies([Vec<IpAddr>; 2]);

/// What answers came to.
#[derive(Debug, PartialEq)]
pub(super) struct MergedAnswers {
    /// Whether there were addresses among them.
    pub(super) has_some: bool,
    /// What was wrong.
    pub(super) problem: Option<String>,
    /// When the next ones are needed.
    pub(super) good_for: Duration,
}

impl MergedAnswers {
    /// There is nothing, in these words.
    pub(super) fn failed(problem: String) -> Self {
        Self { has_some: false, problem: Some(problem), good_for: LONGEST }
    }

    /// The same, asked for neither too often nor too seldom.
    pub(super) fn bounded(self) -> Self {
        Self { good_for: self.good_for.clamp(SHORTEST, LONGEST), ..self }
    }
}

impl KnownFamilies {
    pub(super) fn merge(&mut self, answers: [FamilyAnswer; 2]) -> MergedAnswers {
        let has_some = answers.iter().any(|answer| matches!(answer, FamilyAnswer::Some { .. }));
        let (mut problem, mut absence, mut shortest) = (None, None, LONGEST);
        for (known, answer) in self.0.iter_mut().zip(answers) {
            match answer {
                FamilyAnswer::Some { mut addresses, good_for } => {
                    // The order of answers changes each time, and means nothing.
                    addresses.sort_unstable();
                    addresses.dedup();
                    *known = addresses;
                    shortest = shortest.min(good_for);
                }
                FamilyAnswer::None(words) => {
                    // That both are gone at once is taken for a mistake.
                    if has_some {
                        known.clear();
                    }
                    absence.get_or_insert(words);
                }
                FamilyAnswer::Failed(words) => {
                    problem.get_or_insert(words);
                }
            }
        }
        let problem = problem.or(absence.filter(|_| !has_some));
        MergedAnswers { has_some, problem, good_for: shortest.max(SHORTEST) }
    }

    /// All of them, IPv4 first, each once.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn some(addresses: &str, seconds: u32) -> FamilyAnswer {
        let addresses = addresses.split(' ').map(|it| it.parse().unwrap()).collect();
        FamilyAnswer::Some { addresses, good_for: seconds * S }
    }

    fn none() -> FamilyAnswer {
        FamilyAnswer::None("none".into())
    }

    fn failed() -> FamilyAnswer {
        FamilyAnswer::Failed("failed".into())
    }

    #[test]
    fn each_family_is_replaced_and_keeps_what_it_had_when_it_fails() {
        let mut known = KnownFamilies::default();
        let mut is = |v4, v6, expected: &str, words: &str, seconds: u32| {
            let MergedAnswers { problem, good_for, .. } = known.merge([v4, v6]);
            let addresses: Vec<_> = known.addresses().map(|it| it.to_string()).collect();
            let after = (&*addresses.join(" "), &*problem.unwrap_or_default(), good_for);
            assert_eq!(after, (expected, words, seconds * S));
        };
        is(failed(), none(), "", "failed", 300);
        is(none(), none(), "", "none", 300);
        is(some("10.0.0.2 10.0.0.1 10.0.0.2", 30), none(), "10.0.0.1 10.0.0.2", "", 30);
        is(some("10.0.0.1", 0), some("::2 ::1", 30), "10.0.0.1 ::1 ::2", "", 1);
        is(some("10.0.0.3", 900), failed(), "10.0.0.3 ::1 ::2", "failed", 300);
        is(failed(), some("::1", 5), "10.0.0.3 ::1", "failed", 5);
        is(failed(), none(), "10.0.0.3 ::1", "failed", 300);
        is(none(), none(), "10.0.0.3 ::1", "none", 300);
        is(none(), some("::1", 5), "::1", "", 5);
    }

    #[test]
    fn without_addresses_nothing_is_set() {
        let mut known = KnownFamilies::default();
        assert!(!known.merge([none(), failed()]).has_some);
        assert!(known.merge([failed(), some("::1", 5)]).has_some);
        assert!(!known.merge([none(), failed()]).has_some);
    }
}

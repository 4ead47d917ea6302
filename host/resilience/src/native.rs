//! Native conditions: a list of statuses, a list of failures and a list of gRPC's statuses, each a
//! set of bits.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::body::LateFailureCause;
use crate::config::Problems;
use crate::error::{Behind, Error, ErrorKind, Failure};
use crate::grpc::{GrpcOutcome, GrpcStatuses};
use crate::outcome::Outcome;

/// A status, a class or a range of them: `"503"` (or `503`), `"5xx"`, `"500-502"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusConfig(pub String);

impl<'de> Deserialize<'de> for StatusConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StatusVisitor;
        impl Visitor<'_> for StatusVisitor {
            type Value = StatusConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as \"503\", \"5xx\" or \"500-502\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusConfig, E> {
                Ok(StatusConfig(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<StatusConfig, E> {
                Ok(StatusConfig(number.to_string()))
            }
        }
        deserializer.deserialize_any(StatusVisitor)
    }
}

/// The native lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    statuses: Statuses,
    failures: Failures,
    /// In place of the statuses, for calls by gRPC.
    grpc: GrpcStatuses,
}

/// The lists as the file gives them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListsConfig {
    pub(crate) statuses: Option<Vec<StatusConfig>>,
    pub(crate) failures: Option<Vec<String>>,
    pub(crate) grpc: Option<Vec<String>>,
}

impl ListsConfig {
    /// Whether any is given.
    pub(crate) fn is_any(&self) -> bool {
        self.statuses.is_some() || self.failures.is_some() || self.grpc.is_some()
    }
}

impl Native {
    /// The default `handle_if` of retry: 429, 5xx except 501, and the upstream's failures.
    pub const FAILURES: Self = Self {
        statuses: Statuses::FAILURES,
        failures: Failures::OF_UPSTREAM,
        grpc: GrpcStatuses::RETRIABLE,
    };
    /// The default `handle_if` of breaker: the same without 429, which says that one client is too
    /// fast, not that the upstream is ill; and without `retries-exceeded`, since a breaker looks at
    /// what is behind that.
    pub const ILLNESSES: Self = Self {
        statuses: Statuses::ILLNESSES,
        failures: Failures::ILLNESSES,
        grpc: GrpcStatuses::UNAVAILABLE,
    };
    /// The default `overload_if` of an adaptive limiter: what says that there is too much to do.
    pub const OVERLOADS: Self = Self {
        statuses: Statuses::OVERLOADS,
        failures: Failures::OVERLOADS,
        grpc: GrpcStatuses::OVERLOADS,
    };
    /// The default `handle_if` of fallback: the same, and our own rejections.
    pub const ANY_FAILURE: Self = Self {
        statuses: Statuses::FAILURES,
        failures: Failures::ALL,
        grpc: GrpcStatuses::UNAVAILABLE,
    };
    /// Takes nothing: the default of `abort_if`, `cancel_if` and `ignore_if`.
    pub const NOTHING: Self =
        Self { statuses: Statuses::NONE, failures: Failures::NONE, grpc: GrpcStatuses::NONE };

    /// Takes every response and every failure.
    pub const EVERYTHING: Self =
        Self { statuses: Statuses::ALL, failures: Failures::ALL, grpc: GrpcStatuses::ALL };

    /// These lists with those in place that the file gives; problems go under `key`.
    pub(crate) fn replaced(&self, lists: ListsConfig, key: &str, problems: &mut Problems) -> Self {
        let ListsConfig { statuses, failures, grpc } = lists;
        let statuses = Statuses::build(statuses, self.statuses, &format!("{key}.status"), problems);
        let failures =
            Failures::build(failures, self.failures, &format!("{key}.failure"), problems);
        let grpc = GrpcStatuses::build(grpc, self.grpc, &format!("{key}.grpc_status"), problems);
        Self { statuses, failures, grpc }
    }

    /// What an attempt may come to.
    pub(crate) const OF_UPSTREAM: Self = Self {
        statuses: Statuses::ALL,
        failures: Failures::ILLNESSES.with(Failure::Other),
        grpc: GrpcStatuses::NONE,
    };
    /// After which the upstream may have done what it was asked for.
    pub(crate) const PERHAPS_DONE: Self = Self {
        statuses: Statuses::ALL,
        failures: Failures::NONE
            .with(Failure::ConnectionLost)
            .with(Failure::Protocol)
            .with(Failure::Timeout)
            .with(Failure::RetriesExceeded)
            .with(Failure::BudgetExceeded),
        grpc: GrpcStatuses::NONE,
    };
    /// The same, where it may be called by gRPC.
    pub(crate) const OF_GRPC_UPSTREAM: Self = Self { grpc: GrpcStatuses::ALL, ..Self::OF_UPSTREAM };

    /// These failures.
    pub(crate) fn of_failures(failures: &[Failure]) -> Self {
        let failures = failures.iter().fold(Failures::NONE, |all, failure| all.with(*failure));
        Self { failures, ..Self::NOTHING }
    }

    /// Its failures alone.
    pub(crate) fn without_statuses(&self) -> Self {
        Self { failures: self.failures, ..Self::NOTHING }
    }

    /// What concerns all calls.
    pub(crate) fn without_grpc(&self) -> Self {
        Self { grpc: GrpcStatuses::NONE, ..self.clone() }
    }

    /// Its statuses alone.
    pub(crate) fn without_failures(&self) -> Self {
        Self { failures: Failures::NONE, ..*self }
    }

    /// What either has.
    pub(crate) fn or(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one | other)
    }

    /// What both have.
    pub(crate) fn and(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one & other)
    }

    /// What only this one has.
    pub(crate) fn but(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one & !other)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::NOTHING
    }

    fn zip(&self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let word = |index: usize| both(self.statuses.0[index], other.statuses.0[index]);
        let failures = both(self.failures.0.into(), other.failures.0.into());
        Self {
            statuses: Statuses(std::array::from_fn(word)),
            // Of two sets of 16 bits.
            failures: Failures(failures as u16),
            grpc: self.grpc.zip(other.grpc, |one, other| both(one.into(), other.into()) as u32),
        }
    }

    /// Whether the lists contain this outcome.
    pub fn takes(&self, outcome: &Outcome) -> bool {
        match outcome {
            Ok(response) => match response.grpc() {
                GrpcOutcome::NotGrpc => self.statuses.contains(response.status.as_u16()),
                GrpcOutcome::Open => self.grpc == GrpcStatuses::ALL,
                GrpcOutcome::Ended(status) => self.grpc.take(status, &response.headers),
            },
            // As errors wrap each other in failsafe-go: `retries-exceeded` after a timeout is a
            // timeout too. A fault of our own is nothing but that.
            Err(error) => {
                let is_named = |kind: ErrorKind| self.failures.contains(kind.failure());
                let behind = error.behind().filter(|_| !error.kind().is_own_fault());
                is_named(error.kind())
                    || matches!(behind, Some(Behind::Failure(kind)) if is_named(kind))
            }
        }
    }

    /// Whether the lists contain the response that is behind an error of our own. That is for those
    /// who ask how the upstream is, not what to do about this outcome.
    pub(crate) fn takes_behind(&self, outcome: &Outcome) -> bool {
        match outcome.as_ref().err().and_then(Error::behind) {
            Some(Behind::Response(status)) => self.statuses.contains(status.as_u16()),
            Some(Behind::Grpc(status)) => self.grpc.contains(status),
            Some(Behind::Failure(_)) | None => false,
        }
    }

    /// Whether the lists contain what has become of a response after its head.
    pub(crate) fn takes_late(&self, cause: LateFailureCause) -> bool {
        match cause {
            LateFailureCause::Broken(kind) => self.failures.contains(kind.failure()),
            LateFailureCause::Grpc(status) => self.grpc.contains(status),
            // Lists know nothing of them.
            LateFailureCause::Trailers => false,
        }
    }

    /// The statuses of gRPC in it, if they are not those of `default`.
    pub(crate) fn own_grpc(&self, default: &Self) -> Option<GrpcStatuses> {
        (self.grpc != default.grpc).then_some(self.grpc)
    }
}

/// `429, 500, 502-599, dns, connect`: all but what concerns gRPC alone.
impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.statuses.words();
        if self.failures == Failures::ALL {
            words.push("any failure".into());
        } else {
            words.extend(self.failures.names().map(String::from));
        }
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

/// A set of statuses, 100 to 599.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Statuses([u64; 8]);

impl Statuses {
    const LOWEST: u16 = 100;
    const HIGHEST: u16 = 599;
    const NONE: Self = Self([0; 8]);
    const ALL: Self = Self([u64::MAX; 8]);
    const ILLNESSES: Self = Self::NONE.with(500, 500).with(502, 599);
    const FAILURES: Self = Self::ILLNESSES.with(429, 429);
    const OVERLOADS: Self = Self::NONE.with(429, 429).with(503, 503);

    const fn with(mut self, from: u16, to: u16) -> Self {
        let mut status = from;
        while status <= to {
            let bit = (status - Self::LOWEST) as usize;
            self.0[bit / 64] |= 1 << (bit % 64);
            status += 1;
        }
        self
    }

    /// A status outside 100 to 599 is in no set but `ALL`: HTTP has no meaning for it.
    fn contains(&self, status: u16) -> bool {
        if !(Self::LOWEST..=Self::HIGHEST).contains(&status) {
            return *self == Self::ALL;
        }
        let bit = usize::from(status - Self::LOWEST);
        self.0[bit / 64] & (1 << (bit % 64)) != 0
    }

    /// Its ranges, as a file would have them.
    fn words(&self) -> Vec<String> {
        if *self == Self::ALL {
            return vec!["any status".into()];
        }
        let contained: Vec<u16> =
            (Self::LOWEST..=Self::HIGHEST).filter(|status| self.contains(*status)).collect();
        let ranges = contained.chunk_by(|one, next| one + 1 == *next);
        let words = ranges.map(|range| match range {
            [from, .., to] => format!("{from}-{to}"),
            _ => range[0].to_string(),
        });
        words.collect()
    }

    fn build(
        list: Option<Vec<StatusConfig>>,
        default: Self,
        key: &str,
        problems: &mut Problems,
    ) -> Self {
        let Some(list) = list else { return default };
        let mut statuses = Self::NONE;
        for (index, StatusConfig(text)) in list.iter().enumerate() {
            match Self::range(text) {
                Some((from, to)) => statuses = statuses.with(from, to),
                None => problems.add(
                    format!("{key}[{index}]"),
                    format!(
                        "expected a status such as \"503\", \"5xx\" or \"500-502\" \
                         within 100 to 599, found `{text}`"
                    ),
                ),
            }
        }
        statuses
    }

    fn range(text: &str) -> Option<(u16, u16)> {
        let number = |text: &str| {
            let status = text.parse().ok()?;
            (text.len() == 3 && (Self::LOWEST..=Self::HIGHEST).contains(&status)).then_some(status)
        };
        if let Some(class) = text.strip_suffix("xx") {
            let from = number(&format!("{class}00"))?;
            return Some((from, from + 99));
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (number(from)?, number(to)?);
        (from <= to).then_some((from, to))
    }
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries((Self::LOWEST..=Self::HIGHEST).filter(|status| self.contains(*status)))
            .finish()
    }
}

/// A set of failures.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Failures(u16);

impl Failures {
    const NONE: Self = Self(0);
    const ALL: Self = Self(u16::MAX);
    const OF_UPSTREAM: Self = Self::ILLNESSES.with(Failure::RetriesExceeded);
    /// Without `other`, which is our own fault.
    const ILLNESSES: Self = Self::NONE
        .with(Failure::Dns)
        .with(Failure::Connect)
        .with(Failure::Tls)
        .with(Failure::ConnectionLost)
        .with(Failure::Protocol)
        .with(Failure::Timeout);

    const OVERLOADS: Self = Self::NONE.with(Failure::Connect).with(Failure::Timeout);

    const fn with(self, failure: Failure) -> Self {
        Self(self.0 | 1 << failure as u16)
    }

    fn contains(self, failure: Failure) -> bool {
        self.0 & (1 << failure as u16) != 0
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        Failure::ALL.into_iter().filter(move |failure| self.contains(*failure)).map(Failure::name)
    }

    fn build(list: Option<Vec<String>>, default: Self, key: &str, problems: &mut Problems) -> Self {
        let Some(list) = list else { return default };
        let mut failures = Self::NONE;
        for (index, name) in list.iter().enumerate() {
            if name == "any" {
                failures = Self::ALL;
            } else if let Some(failure) =
                Failure::ALL.into_iter().find(|failure| failure.name() == name)
            {
                failures = failures.with(failure);
            } else {
                let names = Failure::ALL.map(Failure::name).join(", ");
                problems.add(
                    format!("{key}[{index}]"),
                    format!("unknown failure `{name}`; expected any, {names}"),
                );
            }
        }
        failures
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(Failure::ALL.into_iter().filter(|failure| self.contains(*failure)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::ResponseBody;
    use crate::outcome::Response;
    use http::{HeaderMap, StatusCode};

    fn response(status: u16) -> Outcome {
        Ok(Response::new(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            ResponseBody::empty(),
        ))
    }

    #[test]
    fn the_default_takes_429_and_5xx_but_not_501() {
        let taken: Vec<u16> =
            (100..=599).filter(|status| Native::FAILURES.takes(&response(*status))).collect();
        let expected: Vec<u16> = [429, 500].into_iter().chain(502..=599).collect();
        assert_eq!(taken, expected);
        let of_breaker: Vec<u16> =
            (100..=599).filter(|status| Native::ILLNESSES.takes(&response(*status))).collect();
        assert_eq!(of_breaker, expected[1..]);
    }

    #[test]
    fn only_the_fallback_takes_our_own_rejections_by_default() {
        for failure in [ErrorKind::CircuitOpen, ErrorKind::BulkheadFull, ErrorKind::RateLimited] {
            assert!(!Native::FAILURES.takes(&Err(failure.into())));
            assert!(Native::ANY_FAILURE.takes(&Err(failure.into())));
        }
        assert!(Native::FAILURES.takes(&Err(ErrorKind::Timeout.into())));
        assert!(!Native::NOTHING.takes(&Err(ErrorKind::Timeout.into())));
    }

    #[test]
    fn sets_are_said_as_a_file_would_have_them() {
        let said = |native: &Native| native.to_string();
        assert_eq!(said(&Native::NOTHING), "nothing");
        assert_eq!(said(&Native::EVERYTHING), "any status, any failure");
        assert_eq!(
            said(&Native::ILLNESSES),
            "500, 502-599, dns, connect, tls, connection-lost, protocol, timeout"
        );
        let timeouts = Native::of_failures(&[Failure::Timeout]);
        assert_eq!(said(&Native::FAILURES.but(&Native::ILLNESSES)), "429, retries-exceeded");
        assert_eq!(said(&Native::EVERYTHING.and(&timeouts)), "timeout");
        assert_eq!(Native::ILLNESSES.or(&timeouts), Native::ILLNESSES);
        assert!(Native::ILLNESSES.but(&Native::FAILURES).is_empty());
    }

    #[test]
    fn statuses_are_single_classes_or_ranges() {
        assert_eq!(Statuses::range("503"), Some((503, 503)));
        assert_eq!(Statuses::range("5xx"), Some((500, 599)));
        assert_eq!(Statuses::range("500-502"), Some((500, 502)));
        for wrong in
            ["", "5", "600", "099", "502-500", "6xx", "xx", "5xx-6xx", "+503", "50 3", "500-"]
        {
            assert_eq!(Statuses::range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_list_left_out_keeps_the_default_and_an_empty_one_takes_nothing() {
        let mut problems = Problems::default();
        let kept = Statuses::build(None, Statuses::FAILURES, "status", &mut problems);
        let none = Failures::build(Some(vec![]), Failures::OF_UPSTREAM, "failure", &mut problems);
        assert_eq!((kept, none), (Statuses::FAILURES, Failures::NONE));
        assert!(problems.into_result(()).is_ok());
    }
}

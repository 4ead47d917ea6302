//! How long a client waits, and how long the upstream is told that it is waited for.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

/// A header by which a client says how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadlineHeader {
    /// gRPC's: up to eight digits and a unit.
    GrpcTimeout,
    /// Envoy's, in milliseconds.
    EnvoyExpected,
    /// In milliseconds.
    RequestTimeoutMs,
    /// `wait=` in seconds (RFC 7240).
    Prefer,
}

impl DeadlineHeader {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 4] =
        [Self::GrpcTimeout, Self::EnvoyExpected, Self::RequestTimeoutMs, Self::Prefer];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GrpcTimeout => "grpc-timeout",
            Self::EnvoyExpected => "x-envoy-expected-rq-timeout-ms",
            Self::RequestTimeoutMs => "x-request-timeout-ms",
            Self::Prefer => "prefer",
        }
    }

    /// Its name, as a map of headers has it.
    pub fn header(self) -> HeaderName {
        HeaderName::from_static(self.name())
    }

    /// The one of this name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected one of {names}, found `{text}`")
        })
    }
}

impl Serialize for DeadlineHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a client says of how long it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientDeadline {
    /// So long, from the request's arrival on.
    pub after: Option<Duration>,
    /// In this header it says what is not valid.
    pub invalid: Option<DeadlineHeader>,
}

impl ClientDeadline {
    /// What these of the headers say; of several times the shortest.
    pub fn of(headers: &HeaderMap, known: impl IntoIterator<Item = DeadlineHeader>) -> Self {
        let mut said = Self::default();
        for header in known {
            for value in headers.get_all(header.header()) {
                match value.to_str().ok().and_then(|text| read(header, text)) {
                    Some(SaidDeadline::After(time)) => {
                        said.after = Some(said.after.map_or(time, |other| other.min(time)));
                    }
                    Some(SaidDeadline::Nothing) => {}
                    None => said.invalid = Some(header),
                }
            }
        }
        said
    }
}

enum SaidDeadline {
    After(Duration),
    /// It may have other things to say.
    Nothing,
}

/// `None`: it is not valid. No time at all is not: nobody asks for that.
fn read(header: DeadlineHeader, text: &str) -> Option<SaidDeadline> {
    let time = match header {
        DeadlineHeader::GrpcTimeout => grpc(text.trim()),
        DeadlineHeader::EnvoyExpected | DeadlineHeader::RequestTimeoutMs => {
            number(text.trim(), 12).map(Duration::from_millis)
        }
        DeadlineHeader::Prefer => {
            let wait = text.split(',').find_map(|part| preference(part, "wait"));
            let Some(wait) = wait else { return Some(SaidDeadline::Nothing) };
            number(wait.trim_matches('"'), 9).map(Duration::from_secs)
        }
    };
    time.filter(|time| !time.is_zero()).map(SaidDeadline::After)
}

/// The value of a preference of this name.
fn preference<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let first = part.split(';').next().unwrap_or_default();
    let (found, value) = first.split_once('=')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

fn grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number(digits, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A number of so many digits at most.
fn number(text: &str, most: usize) -> Option<u64> {
    let is_number =
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// What an attempt tells of the time that is left, with what the request says in these headers.
pub fn told(
    headers: &HeaderMap,
    told: &[DeadlineHeader],
    left: Duration,
) -> Vec<(HeaderName, HeaderValue)> {
    let is_grpc = headers.contains_key(DeadlineHeader::GrpcTimeout.header())
        && !told.contains(&DeadlineHeader::GrpcTimeout);
    let grpc = is_grpc.then_some(DeadlineHeader::GrpcTimeout);
    let value = |header: DeadlineHeader| {
        Some((header.header(), HeaderValue::try_from(written(headers, header, left)).ok()?))
    };
    told.iter().copied().chain(grpc).filter_map(value).collect()
}

/// Rounded down, but for a whole unit at least.
fn written(headers: &HeaderMap, header: DeadlineHeader, left: Duration) -> String {
    let millis = (left.as_millis() as u64).max(1);
    match header {
        // Eight digits are 27 hours.
        DeadlineHeader::GrpcTimeout if millis > 99_999_999 => {
            format!("{}S", left.as_secs().min(99_999_999))
        }
        DeadlineHeader::GrpcTimeout => format!("{millis}m"),
        DeadlineHeader::EnvoyExpected | DeadlineHeader::RequestTimeoutMs => millis.to_string(),
        DeadlineHeader::Prefer => {
            let values = headers.get_all(header.header()).iter();
            let parts = values.filter_map(|value| value.to_str().ok());
            let others = parts.flat_map(|text| text.split(',')).map(str::trim);
            let others = others.filter(|part| preference(part, "wait").is_none());
            let mut kept: Vec<String> = others.map(str::to_owned).collect();
            kept.push(format!("wait={}", left.as_secs().max(1)));
            kept.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(header: DeadlineHeader, value: &'static str) -> ClientDeadline {
        let headers = HeaderMap::from_iter([(header.header(), HeaderValue::from_static(value))]);
        ClientDeadline::of(&headers, DeadlineHeader::ALL)
    }

    #[test]
    fn each_header_has_its_own_form() {
        use DeadlineHeader::{EnvoyExpected, GrpcTimeout, Prefer, RequestTimeoutMs};
        for (header, value, millis) in [
            (GrpcTimeout, "250m", Some(250)),
            (GrpcTimeout, "2S", Some(2_000)),
            (GrpcTimeout, "1M", Some(60_000)),
            (GrpcTimeout, "99999999H", Some(99_999_999 * 3_600_000)),
            (GrpcTimeout, "5000u", Some(5)),
            (GrpcTimeout, "5000000n", Some(5)),
            (GrpcTimeout, "123456789m", None),
            (GrpcTimeout, "m", None),
            (GrpcTimeout, "", None),
            (GrpcTimeout, "5x", None),
            (GrpcTimeout, "-5m", None),
            (GrpcTimeout, "0m", None),
            (EnvoyExpected, "300", Some(300)),
            (EnvoyExpected, "0", None),
            (EnvoyExpected, "1.5", None),
            (RequestTimeoutMs, " 7 ", Some(7)),
            (RequestTimeoutMs, "1234567890123", None),
            (Prefer, "respond-async, wait=10", Some(10_000)),
            (Prefer, "Wait=\"3\"; x=y", Some(3_000)),
            (Prefer, "wait=ten", None),
        ] {
            let expected = ClientDeadline {
                after: millis.map(Duration::from_millis),
                invalid: millis.is_none().then_some(header),
            };
            assert_eq!(said(header, value), expected, "{header:?} {value}");
        }
        assert_eq!(said(Prefer, "return=minimal"), ClientDeadline::default());
    }

    #[test]
    fn the_shortest_time_counts_and_only_that_of_known_headers() {
        let headers = HeaderMap::from_iter(
            [("grpc-timeout", "3S"), ("x-request-timeout-ms", "x"), ("prefer", "wait=2")].map(
                |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)),
            ),
        );
        let after =
            |known: &[DeadlineHeader]| ClientDeadline::of(&headers, known.iter().copied()).after;
        assert_eq!(after(&DeadlineHeader::ALL), Some(Duration::from_secs(2)));
        assert_eq!(after(&[DeadlineHeader::GrpcTimeout]), Some(Duration::from_secs(3)));
        assert_eq!(after(&[]), None);
        let all = ClientDeadline::of(&headers, DeadlineHeader::ALL);
        assert_eq!(all.invalid, Some(DeadlineHeader::RequestTimeoutMs));
    }

    #[test]
    fn what_is_told_is_what_is_left() {
        let headers = HeaderMap::from_iter(
            [("grpc-timeout", "3S"), ("prefer", "return=minimal, wait=9")].map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
        let text = |known: &[DeadlineHeader], left: Duration| {
            let told = told(&headers, known, left);
            let told =
                told.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            told.collect::<Vec<_>>()
        };
        let left = Duration::from_micros(1_995_900);
        assert_eq!(text(&[], left), ["grpc-timeout: 1995m"], "where it is there already");
        assert_eq!(
            text(&[DeadlineHeader::Prefer, DeadlineHeader::RequestTimeoutMs], left),
            ["prefer: return=minimal, wait=1", "x-request-timeout-ms: 1995", "grpc-timeout: 1995m"]
        );
        assert_eq!(text(&[], Duration::ZERO), ["grpc-timeout: 1m"]);
        assert_eq!(text(&[], Duration::from_secs(200_000)), ["grpc-timeout: 200000S"]);
    }
}

//! How important a request is, as all its hops see it: the class that somebody gave it, and within
//! the class a number that follows from the request id.
//!
//! Where some must be rejected, those of the lowest levels are. If each service on the way of a
//! request rejected by chance, a request that needs three of them, of which each admits half, would
//! come through one time in eight, and the work for the others would be lost. The level is the same
//! everywhere, so a request lives or dies whole (Uber's Cinnamon, WeChat's DAGOR).

use std::fmt;

use http::HeaderName;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The header of the class, by name or number, from a client that is trusted; and to upstreams.
pub const PRIORITY: HeaderName = HeaderName::from_static("x-fusebox-priority");
/// The header of the level, 0 to 499, the same way.
pub const LEVEL: HeaderName = HeaderName::from_static("x-fusebox-level");

/// How many levels a class has.
const LEVELS: u16 = 100;

/// How important a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PriorityClass {
    /// It can wait for another day.
    VeryLow,
    /// Nobody misses it soon.
    Low,
    /// The usual.
    #[default]
    Medium,
    /// Somebody waits for it.
    High,
    /// Nothing goes on without it.
    VeryHigh,
}

impl PriorityClass {
    /// Every one, the lowest first.
    pub const ALL: [Self; 5] = [Self::VeryLow, Self::Low, Self::Medium, Self::High, Self::VeryHigh];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::VeryHigh => "very-high",
        }
    }

    /// The class of this word or number. A number out of range is the nearest.
    pub fn parse(text: &str) -> Option<Self> {
        let by_name = Self::ALL.into_iter().find(|class| class.name().eq_ignore_ascii_case(text));
        by_name.or_else(|| Some(Self::ALL[clamped(text, Self::ALL.len() as u16 - 1)? as usize]))
    }
}

impl<'de> Deserialize<'de> for PriorityClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClassVisitor;
        impl Visitor<'_> for ClassVisitor {
            type Value = PriorityClass;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let names = PriorityClass::ALL.map(PriorityClass::name).join(", ");
                write!(f, "one of {names}, or 0 to 4")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PriorityClass, E> {
                let found = PriorityClass::ALL.into_iter().find(|class| class.name() == text);
                found.ok_or_else(|| self.found(text))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PriorityClass, E> {
                let class = usize::try_from(number).ok();
                let class = class.and_then(|number| PriorityClass::ALL.get(number));
                class.copied().ok_or_else(|| self.found(number))
            }
        }
        impl ClassVisitor {
            fn found<E: de::Error>(&self, found: impl fmt::Display) -> E {
                E::custom(format!("expected {}, found `{found}`", self as &dyn de::Expected))
            }
        }
        deserializer.deserialize_any(ClassVisitor)
    }
}

/// A hundred times the class, and 0 to 99: the higher, the more important.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriorityLevel(u16);

impl PriorityLevel {
    /// How many there are.
    pub const COUNT: usize = PriorityClass::ALL.len() * LEVELS as usize;

    /// That of a request with this id: the same whoever asks.
    pub fn of_request(class: PriorityClass, id: &[u8]) -> Self {
        Self(class as u16 * LEVELS + (hash(id) % u64::from(LEVELS)) as u16)
    }

    /// That of a request with this place among all of its class, from 0, the last to be rejected,
    /// to less than 1.
    pub fn of_place(class: PriorityClass, place: f64) -> Self {
        let from_above = (place.clamp(0.0, 1.0) * f64::from(LEVELS)) as u16;
        Self(class as u16 * LEVELS + (LEVELS - 1).saturating_sub(from_above))
    }

    /// A number from 0 to less than 1 that follows from this id: the same whoever asks.
    pub fn chance_of(id: &[u8]) -> f64 {
        (hash(id) % u64::from(LEVELS)) as f64 / f64::from(LEVELS)
    }

    /// The level that a header says, if it is a number. One out of range is the nearest.
    pub fn parse(text: &str) -> Option<Self> {
        clamped(text, Self::COUNT as u16 - 1).map(Self)
    }

    /// Its class.
    pub fn class(self) -> PriorityClass {
        PriorityClass::ALL[usize::from(self.0 / LEVELS)]
    }

    /// The same within another class.
    #[must_use]
    pub fn in_class(self, class: PriorityClass) -> Self {
        Self(class as u16 * LEVELS + self.0 % LEVELS)
    }

    /// The same in the class below, if there is one.
    #[must_use]
    pub fn one_class_less(self) -> Self {
        Self(self.0.checked_sub(LEVELS).unwrap_or(self.0))
    }

    /// Its number, 0 to 499.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A whole number, at most this.
fn clamped(text: &str, most: u16) -> Option<u16> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Too large to be read is too large.
    let number = digits.parse().unwrap_or(u16::MAX).min(most);
    Some(if is_negative { 0 } else { number })
}

/// 64-bit FNV-1a, with its bits mixed: it must be the same in every process and version.
fn hash(bytes: &[u8]) -> u64 {
    let hashed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hashed ^ hashed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_levels_of_known_ids_never_change() {
        let level = |id: &str| PriorityLevel::of_request(PriorityClass::Medium, id.as_bytes());
        assert_eq!(["", "1", "7f3c"].map(|id| level(id).number()), [258, 232, 230]);
    }

    #[test]
    fn a_class_has_a_word_and_a_number_and_what_is_out_of_range_is_the_nearest() {
        for (number, class) in PriorityClass::ALL.into_iter().enumerate() {
            assert_eq!(PriorityClass::parse(class.name()), Some(class));
            assert_eq!(PriorityClass::parse(&number.to_string()), Some(class));
        }
        let parse = PriorityClass::parse;
        assert_eq!(parse("Very-High"), Some(PriorityClass::VeryHigh));
        assert_eq!(["5", "99999999999999999999"].map(parse), [Some(PriorityClass::VeryHigh); 2]);
        assert_eq!(["-1", "-99999999999999999999"].map(parse), [Some(PriorityClass::VeryLow); 2]);
        assert_eq!(["", "-", "+1", "1.5", "urgent", " 1"].map(parse), [None; 6]);
    }

    #[test]
    fn a_level_out_of_range_is_the_nearest() {
        let parse = |text| PriorityLevel::parse(text).map(PriorityLevel::number);
        assert_eq!(["0", "499", "500", "70000"].map(parse), [0, 499, 499, 499].map(Some));
        assert_eq!(["-3", "x", ""].map(parse), [Some(0), None, None]);
        assert_eq!(PriorityLevel(499).class(), PriorityClass::VeryHigh);
        assert_eq!(PriorityLevel(250).one_class_less(), PriorityLevel(150));
        assert_eq!(PriorityLevel(50).one_class_less(), PriorityLevel(50));
    }

    #[test]
    fn the_levels_of_a_class_are_about_equally_frequent() {
        let mut counts = [0; LEVELS as usize];
        for id in 0..100_000u32 {
            let level =
                PriorityLevel::of_request(PriorityClass::Low, format!("{id:032x}").as_bytes());
            assert_eq!(level.class(), PriorityClass::Low);
            counts[usize::from(level.number() % LEVELS)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    proptest! {
        /// What one hop sends the next takes for the same, whether or not it heeds the level.
        #[test]
        fn a_request_has_the_same_level_at_every_hop(id in "[!-~]{0,128}", class in 0..5usize) {
            let class = PriorityClass::ALL[class];
            let level = PriorityLevel::of_request(class, id.as_bytes());
            prop_assert_eq!(level.class(), class);
            prop_assert_eq!(PriorityLevel::parse(&level.number().to_string()), Some(level));
            let heard = PriorityClass::parse(level.class().name()).expect("it is a word");
            prop_assert_eq!(PriorityLevel::of_request(heard, id.as_bytes()), level);
        }
    }
}

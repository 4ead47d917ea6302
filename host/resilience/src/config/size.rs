//! Sizes in bytes.

use std::fmt;

use bytesize::ByteSize;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A number of bytes as the file says it: `"64KiB"`, or a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigSize(pub u64);

impl ConfigSize {
    /// `count` KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes, for what is held in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Shown as in the file, in the largest unit that gives a whole number.
impl fmt::Display for ConfigSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let unit = if self.0 == 0 { 0 } else { self.0.trailing_zeros() as usize / 10 };
        write!(f, "{}{}", self.0 >> (10 * unit), units[unit])
    }
}

impl Serialize for ConfigSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ConfigSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64KiB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ConfigSize, E> {
                u64::try_from(bytes)
                    .map(ConfigSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConfigSize, E> {
                let size: ByteSize =
                    text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                // Larger numbers are parsed as the largest one.
                if size.as_u64() == u64::MAX {
                    return Err(E::custom(format!("must be less than 16EiB, is `{text}`")));
                }
                Ok(ConfigSize(size.as_u64()))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_the_file_would_say_it() {
        for (bytes, shown) in [
            (0, "0B"),
            (1, "1B"),
            (1_000, "1000B"),
            (1_024, "1KiB"),
            (1_536, "1536B"),
            (64 << 10, "64KiB"),
            (1 << 30, "1GiB"),
            (3 << 60, "3EiB"),
        ] {
            assert_eq!(ConfigSize(bytes).to_string(), shown);
        }
    }
}

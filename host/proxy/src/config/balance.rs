//! Which of an upstream's endpoints gets a request.

use fusebox_resilience::KeyConfig;

use super::key;
use super::table::Reader;
use super::words::found;

/// Which of several endpoints gets a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum BalanceConfig {
    /// Of two that are drawn, the one with less to do.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The same one for the same key, as long as it is there.
    Hash(KeyConfig),
}

impl BalanceConfig {
    /// Its word in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Hash(_) => "hash",
        }
    }

    /// Whether it looks at a part of the path.
    pub fn reads_path(&self) -> bool {
        matches!(self, Self::Hash(key) if key.reads_path())
    }

    /// Reads the key at `path`; the default if it is not there.
    pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Self {
        const EXPECTED: &str = "expected \"least-request\", \"round-robin\" or a table such as \
                                { hash = { header = \"x-user\" } }";
        let Some(value) = reader.document.value(path) else { return Self::default() };
        let value = value.get_ref();
        match value.as_str() {
            Some("least-request") => return Self::LeastRequest,
            Some("round-robin") => return Self::RoundRobin,
            _ if value.is_table() => {}
            _ => {
                reader.error(path, format!("{EXPECTED}, found {}", found(value)));
                return Self::default();
            }
        }
        let hash = format!("{path}.hash");
        if reader.document.value(&hash).is_none() {
            reader.error(path, format!("{EXPECTED}, found a table without `hash`"));
        }
        reader.known_keys(path, &["hash"]);
        key::read(reader, &hash).map_or_else(Self::default, Self::Hash)
    }
}

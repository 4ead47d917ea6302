//! A key as the file says it.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// Where the value comes from: one source, or several whose values make one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyConfig(pub Vec<KeySourceConfig>);

impl KeyConfig {
    /// Whether a part of the path is in it.
    pub fn reads_path(&self) -> bool {
        self.0.iter().any(|source| matches!(source, KeySourceConfig::PathSegment(_)))
    }
}

/// A part of the request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(try_from = "KeySourceTable")]
pub enum KeySourceConfig {
    /// The first header of this name.
    Header(String),
    /// The client's address; `client = true`.
    Client(bool),
    /// The segment of the path with this number, from 1.
    PathSegment(usize),
    /// The first parameter of this name in the query.
    Query(String),
    /// The first cookie of this name.
    Cookie(String),
    /// What the component of this name answers.
    Component(String),
}

/// A source as the file says it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct KeySourceTable {
    header: Option<String>,
    client: Option<bool>,
    path_segment: Option<usize>,
    query: Option<String>,
    cookie: Option<String>,
    component: Option<String>,
}

impl TryFrom<KeySourceTable> for KeySourceConfig {
    type Error = &'static str;

    fn try_from(table: KeySourceTable) -> Result<Self, &'static str> {
        let KeySourceTable { header, client, path_segment, query, cookie, component } = table;
        let given = [
            header.map(Self::Header),
            client.map(Self::Client),
            path_segment.map(Self::PathSegment),
            query.map(Self::Query),
            cookie.map(Self::Cookie),
            component.map(Self::Component),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(source), None) => Ok(source),
            _ => Err("expected one of header, client, path_segment, query, cookie, component; \
                      several are a list: [{ header = \"a\" }, { client = true }]"),
        }
    }
}

impl<'de> Deserialize<'de> for KeyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = KeyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source such as { header = \"x-tenant\" }, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyConfig, A::Error> {
                let source = de::value::MapAccessDeserializer::new(map);
                Ok(KeyConfig(vec![KeySourceConfig::deserialize(source)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<KeyConfig, A::Error> {
                let sources = de::value::SeqAccessDeserializer::new(list);
                Ok(KeyConfig(Vec::deserialize(sources)?))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

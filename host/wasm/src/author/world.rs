//! The worlds of the contract, and what tools need to know of components.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::Deserialize;
use wasmparser::{Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::compiler::wrap::{has_world, into_component};
use crate::contract::WIT;

/// A world of the contract: what a component exports.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum World {
    /// A condition and a source of fallback responses.
    #[serde(rename = "policy")]
    Policy,
    /// Only a condition.
    #[serde(rename = "predicate-policy")]
    PredicatePolicy,
    /// Only a source of fallback responses.
    #[serde(rename = "fallback-policy")]
    FallbackPolicy,
    /// Only what knows how long to wait.
    #[serde(rename = "delay-policy")]
    DelayPolicy,
    /// Only what knows whose call it is.
    #[serde(rename = "key-policy")]
    KeyPolicy,
    /// A condition, and what knows how long to wait.
    #[serde(rename = "retry-policy")]
    RetryPolicy,
}

impl World {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Policy,
        Self::PredicatePolicy,
        Self::FallbackPolicy,
        Self::DelayPolicy,
        Self::KeyPolicy,
        Self::RetryPolicy,
    ];

    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::PredicatePolicy => "predicate-policy",
            Self::FallbackPolicy => "fallback-policy",
            Self::DelayPolicy => "delay-policy",
            Self::KeyPolicy => "key-policy",
            Self::RetryPolicy => "retry-policy",
        }
    }

    /// The component of a core module that was compiled for this world by a tool that does not make
    /// components.
    ///
    /// # Errors
    /// It is no core module, or does not export what the world wants.
    pub fn componentize(self, module: &[u8]) -> Result<Vec<u8>> {
        if has_world(module)? {
            return into_component(module);
        }
        let mut contract = Resolve::default();
        let package = contract.push_str("policy.wit", WIT)?;
        let world = contract.select_world(&[package], Some(self.name()))?;
        let mut module = module.to_vec();
        embed_component_metadata(&mut module, &contract, world, StringEncoding::UTF8)?;
        into_component(&module)
    }
}

/// The names of what a component imports, without compiling it.
///
/// # Errors
/// It can't be read.
pub fn imports(component: &[u8]) -> Result<Vec<String>> {
    let mut imports = Vec::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(imports)
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for World {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|world| world.name() == name);
        known.ok_or_else(|| {
            format!("unknown world `{name}`; expected {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

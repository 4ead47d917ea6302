//! Which methods are safe to repeat.

use http::Method;

use crate::config::Problems;

/// The methods that are safe to repeat.
#[derive(Debug)]
pub(crate) enum Methods {
    All,
    These(Vec<Method>),
}

impl Methods {
    /// The idempotent ones of RFC 9110, section 9.2.2, and QUERY (RFC 10008).
    pub(super) fn idempotent() -> Vec<String> {
        ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"].map(String::from).to_vec()
    }

    /// Whether carrying it out twice comes to the same as once.
    pub(crate) fn is_idempotent(method: &Method) -> bool {
        Self::idempotent().iter().any(|name| name == method.as_str())
    }

    /// Whether some of these, repeated, may do once more what they have done.
    pub(super) fn change_something(names: &[String]) -> bool {
        names.iter().any(|name| ["*", "POST", "PATCH"].contains(&name.as_str()))
    }

    pub(super) fn build(names: &[String], problems: &mut Problems) -> Self {
        if names == ["*"] {
            return Self::All;
        }
        let mut methods = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if name != "*" && *name == name.to_ascii_uppercase() => {
                    methods.push(method)
                }
                _ => problems.add(
                    format!("methods[{index}]"),
                    format!(
                        "expected a method in capitals, or [\"*\"] for all of them, found `{name}`"
                    ),
                ),
            }
        }
        Self::These(methods)
    }

    pub(super) fn contains(&self, method: &Method) -> bool {
        match self {
            Self::All => true,
            Self::These(methods) => methods.contains(method),
        }
    }
}

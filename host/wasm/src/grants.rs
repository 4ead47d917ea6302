//! What a component may import: the contract, and WASI 0.2; of that HTTP only if it handles
//! requests.
//!
//! Refused by name before linking, so that the error says what to do; linking itself only says what
//! it did not find.

/// The packages of WASI that link (and are empty: see [`wasi`](crate::wasi)).
const WASI: [&str; 7] = ["cli", "clocks", "config", "filesystem", "io", "random", "sockets"];

/// The interfaces of the contract that guests import.
const CONTRACT: [&str; 3] = ["attempt", "settings", "types"];

/// The interfaces of `wasi:http` that components import which handle requests. Many tool chains
/// import the second whether or not it is used, so it links without a grant, and is denied when it
/// is called.
const HTTP: [&str; 2] = ["types", "outgoing-handler"];

/// Why the import of this name is not granted, if it is not, to a component that handles requests
/// or not.
pub(crate) fn refusal(import: &str, is_handler: bool) -> Option<String> {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    match package.split_once(':') {
        Some(("fusebox", "policy")) if !is_compatible(version, "0.1") => {
            Some(format!("import `{import}`: expected `fusebox:policy` in version 0.1"))
        }
        Some(("fusebox", "policy")) if CONTRACT.contains(&interface) => None,
        Some(("wasi", "http")) if !is_handler => Some(format!(
            "import `{import}` is not granted: policies have no network, unless they export \
             `wasi:http/incoming-handler`"
        )),
        Some(("wasi", _)) if !is_compatible(version, "0.2") => {
            Some(format!("import `{import}`: expected WASI 0.2; build for `wasm32-wasip2`"))
        }
        Some(("wasi", "http")) if HTTP.contains(&interface) => None,
        Some(("wasi", name)) if WASI.contains(&name) => None,
        _ => Some(format!("import `{import}` is not known here")),
    }
}

/// Whether `version` is `minor` or one of its patches.
fn is_compatible(version: &str, minor: &str) -> bool {
    version.strip_prefix(minor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_and_wasi_0_2_are_granted() {
        for import in
            ["fusebox:policy/attempt@0.1.0", "fusebox:policy/types@0.1.7", "wasi:cli/stderr@0.2.6"]
        {
            assert_eq!(refusal(import, false), None, "{import}");
        }
    }

    #[test]
    fn http_is_granted_to_what_handles_requests() {
        for import in
            ["wasi:http/types@0.2.3", "wasi:http/outgoing-handler@0.2.9", "wasi:cli/stderr@0.2.6"]
        {
            assert_eq!(refusal(import, true), None, "{import}");
        }
        for import in [
            "wasi:http/types@0.3.0",
            "wasi:http/incoming-handler@0.2.0",
            "wasi:keyvalue/store@0.2.0",
        ] {
            assert!(refusal(import, true).is_some(), "{import}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (import, why) in [
            ("fusebox:policy/attempt@0.2.0", "in version 0.1"),
            ("fusebox:policy/retry@0.1.0", "not known here"),
            ("wasi:http/outgoing-handler@0.2.0", "not granted"),
            ("wasi:cli/stderr@0.3.0", "expected WASI 0.2"),
            ("wasi:cli/stderr@0.20.0", "expected WASI 0.2"),
            ("wasi:keyvalue/store@0.2.0", "not known here"),
            ("log", "not known here"),
        ] {
            let refusal = refusal(import, false).expect(import);
            assert!(refusal.contains(import) && refusal.contains(why), "{refusal}");
        }
    }
}

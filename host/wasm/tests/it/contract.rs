//! The promise of the contract: what was built for its first version keeps loading, and means the
//! same.
//!
//! `fixtures/policy-0.1.0.wit` is the contract as it was first published, and
//! `fixtures/policy-0.1.0.wat` a component of it with all its imports. Neither ever changes.

use fusebox_resilience::ErrorKind;
use fusebox_wasm::WIT;
use http::Request;
use wit_component::semver_check;
use wit_parser::Resolve;

use crate::support::{Seen, load_with};

const FIRST: &str = include_str!("../fixtures/policy-0.1.0.wit");

#[test]
fn the_contract_has_all_that_its_first_version_had() {
    for world in ["policy", "predicate-policy", "fallback-policy"] {
        let mut both = Resolve::default();
        let mut add = |text: &str, version: &str| {
            let text =
                text.replace("fusebox:policy@0.1.0", &format!("fusebox:policy@0.1.{version}"));
            let package = both.push_str("policy.wit", &text).expect("valid text");
            both.select_world(&[package], Some(world)).expect("there is one")
        };
        let (first, now) = (add(FIRST, "0"), add(WIT, "1"));
        semver_check(both, first, now).unwrap_or_else(|error| panic!("{world}: {error:#}"));
    }
}

#[test]
fn a_component_that_was_built_for_the_first_version_loads_and_means_the_same() {
    let first = wat::parse_str(include_str!("../fixtures/policy-0.1.0.wat")).expect("valid text");
    let tested = load_with(&first, |config| {
        config.settings.insert("x-key".into(), "of the configuration".into());
    });
    let answers = [503, 200].map(|status| tested.handles(status));
    assert_eq!(answers, [false, false], "no attempt was made, so it takes 502");
    assert!(tested.handles(502) && !tested.handles(ErrorKind::Timeout));
    let mut seen = Seen::from(502);
    seen.request = Request::get("/").header("x-key", "of the request");
    assert_eq!(tested.tells(seen), "of the request");
    assert_eq!(tested.faults(), []);
}

//! The text format of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

/// The series of a text in the format of Prometheus, which is checked line by line.
#[track_caller]
pub(crate) fn metrics(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, of) = of.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert!(helped.contains(name) && typed.insert(name.to_owned()), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            (family, kind) = (name.to_owned(), of.to_owned());
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
            let suffix = metric
                .strip_prefix(family.as_str())
                .unwrap_or_else(|| panic!("outside its family: {line}"));
            let suffixes: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(metric.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            labels_are_well_formed(labels, line);
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert_eq!(helped, typed);
    series
}

/// `name="value",…}`
#[track_caller]
fn labels_are_well_formed(labels: &str, line: &str) {
    let mut rest = labels;
    while rest != "}" {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{line}"
        );
        let mut escaped = false;
        let end = value.find(|letter| {
            let end = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            end
        });
        rest = &value[end.unwrap_or_else(|| panic!("no end: {line}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

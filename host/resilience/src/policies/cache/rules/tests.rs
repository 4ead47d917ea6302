use super::*;

use http::{HeaderName, HeaderValue};

const TRUTH: &str = include_str!("../truth.txt");

/// The time at which each response of the table is received.
fn received() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// `name: value; name: value`, with `{60}` for dates.
fn headers(text: &str) -> HeaderMap {
    let fields = text.split(';').map(str::trim).filter(|field| !field.is_empty());
    fields
        .map(|field| {
            let (name, value) = field.split_once(": ").expect(field);
            let value = match value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(offset) => {
                    let seconds: i64 = offset.parse().expect(offset);
                    let offset = Duration::from_secs(seconds.unsigned_abs());
                    let date = if seconds < 0 { received() - offset } else { received() + offset };
                    httpdate::fmt_http_date(date)
                }
                None => value.to_owned(),
            };
            let name = HeaderName::try_from(name).expect(field);
            (name, HeaderValue::try_from(value).expect(field))
        })
        .collect()
}

fn defaults(line: &str) -> Defaults {
    let mut seconds = line.split_whitespace().map(|it| Duration::from_secs(it.parse().unwrap()));
    let mut next = || seconds.next().expect(line);
    Defaults { ttl: next(), stale_if_error: next(), stale_while_revalidate: next() }
}

/// What the rules say at the ages that `expected` names, in its words.
fn said(columns: &[&str], defaults: &Defaults) -> String {
    let status = StatusCode::from_bytes(columns[2].as_bytes()).expect(columns[2]);
    let (request, response) = (headers(columns[1]), headers(columns[3]));
    let stored = may_store(&request, status, &response, Duration::ZERO, received(), defaults);
    let freshness = match stored {
        Ok(freshness) => freshness,
        Err(reason) => return format!("not {}", reason.name()),
    };
    let again = Directives::of_request(&headers(columns.get(5).copied().unwrap_or_default()));
    let ages = columns[4].split(", ").map(|point| point.split(' ').next().unwrap_or_default());
    let at = |age: &str| {
        let Ok(seconds) = age.parse() else { return "kept".to_owned() };
        let seconds = Duration::from_secs(seconds);
        let usable = match freshness.usable(seconds, &again) {
            Usable::Fresh => "fresh",
            Usable::AsAsked => "as-asked",
            Usable::WhileRevalidating => "while-revalidating",
            Usable::Validated => "validated",
        };
        let error = if freshness.stands_for_failure(seconds) { "+error" } else { "" };
        format!("{age} {usable}{error}")
    };
    ages.map(at).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_rules_are_those_of_the_truth_table() {
    let mut given = Defaults::default();
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in TRUTH.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(line) = line.strip_prefix('~') {
            given = defaults(line);
            continue;
        }
        rows += 1;
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let said = said(&columns, &given);
        if said != columns[4] {
            wrong.push(format!("{line}\n  says {said}"));
        }
    }
    assert!(rows > 120, "{rows} rows were read");
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_time_on_the_way_is_part_of_the_age() {
    let response = headers("cache-control: max-age=60; age: 5");
    let delay = Duration::from_secs(2);
    let none = HeaderMap::new();
    let stored =
        may_store(&none, StatusCode::OK, &response, delay, received(), &Defaults::default());
    assert_eq!(stored.map(|it| it.initial_age), Ok(Duration::from_secs(7)));
}

#[test]
fn a_safe_method_changes_nothing() {
    for (method, changes) in [
        ("GET", false),
        ("HEAD", false),
        ("OPTIONS", false),
        ("TRACE", false),
        ("QUERY", false),
        ("POST", true),
        ("PUT", true),
        ("DELETE", true),
        ("PATCH", true),
        ("MOVE", true),
    ] {
        assert_eq!(is_unsafe(&Method::from_bytes(method.as_bytes()).unwrap()), changes, "{method}");
    }
}

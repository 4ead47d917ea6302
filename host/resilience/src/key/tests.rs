//! Values of requests, and configurations that make no sense.

use std::time::SystemTime;

use http::HeaderValue;
use serde::Deserialize;

use super::*;
use crate::body::RequestBody;
use crate::call::Call;
use crate::request::Request;
use crate::testing::NoParts;
use crate::worker::Worker;

fn key(text: &str) -> Result<CallKey, String> {
    #[derive(Deserialize)]
    struct Table {
        key: KeyConfig,
    }
    let table: Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut problems = Problems::default();
    let key = table.key.build("key", &NoParts, &mut problems);
    problems.into_result(key).map_err(|problems| {
        let problems = problems.into_iter();
        problems.map(|it| format!("{}: {}", it.path, it.message)).collect::<Vec<_>>().join("; ")
    })
}

/// A request for this target with these headers, of a client at 192.0.2.1.
fn request(target: &str, headers: &[(&'static str, &str)]) -> Call {
    let mut head = http::Request::get(target);
    for (name, value) in headers {
        head = head.header(*name, *value);
    }
    let (head, ()) = head.body(()).unwrap().into_parts();
    let id = HeaderValue::from_static("1");
    let mut request = Request::new(id, "test".into(), head, SystemTime::UNIX_EPOCH);
    request.set_client("192.0.2.1".into());
    Call::new(request, RequestBody::empty(), Worker::unobserved().into())
}

/// The values as they are shown; `None`: there is none.
fn value(text: &str, call: &Call) -> Option<String> {
    let key = key(text).expect(text);
    let values = key.values(&KeyQuestion::of(call, call.route(), None));
    let mut shown = ShownValues::default();
    values.iter().for_each(|value| shown.push(value));
    values.is_any().then(|| shown.into_text())
}

#[test]
fn each_source_finds_its_value() {
    let headers = [("x-tenant", "red"), ("cookie", "a=1; t=\"blue\";u"), ("cookie", "v=x=y")];
    let of =
        |target: &str, key: &str| value(&format!("key = {{ {key} }}"), &request(target, &headers));
    for (target, key, expected) in [
        ("/", "header = \"X-Tenant\"", Some("red")),
        ("/", "header = \"x-user\"", None),
        ("/", "client = true", Some("192.0.2.1")),
        ("/a/b%2Fc/d", "path_segment = 1", Some("a")),
        ("/a/b%2Fc/d", "path_segment = 2", Some("b/c")),
        ("/a/b", "path_segment = 3", None),
        ("/a/", "path_segment = 2", None),
        ("/", "path_segment = 1", None),
        ("http://b/%61", "path_segment = 1", Some("a")),
        ("/?t=red&t=blue", "query = \"t\"", Some("red")),
        ("/?%74=r%65d+%2b%", "query = \"t\"", Some("red +%")),
        ("/?s=1&t", "query = \"t\"", None),
        ("/?t=%4", "query = \"t\"", Some("%4")),
        ("/", "query = \"t\"", None),
        ("/", "cookie = \"t\"", Some("blue")),
        ("/", "cookie = \"v\"", Some("x=y")),
        ("/", "cookie = \"u\"", None),
        ("/", "cookie = \"T\"", None),
    ] {
        assert_eq!(of(target, key).as_deref(), expected, "{key} of {target}");
    }
}

#[test]
fn several_sources_make_one_key_and_some_may_be_missing() {
    let both = "key = [{ header = \"x-tenant\" }, { query = \"t\" }]";
    let of = |target: &str, tenant: &str| value(both, &request(target, &[("x-tenant", tenant)]));
    assert_eq!(of("/?t=a", "red").as_deref(), Some("red, a"));
    assert_eq!(of("/", "red").as_deref(), Some("red, "));
    assert_eq!(of("/?t=a", "").as_deref(), Some(", a"));
    assert_eq!(of("/", ""), None);
}

#[test]
fn of_a_long_value_the_beginning_is_shown() {
    let tenant = "x".repeat(1 << 20);
    let request = request("/", &[("x-tenant", &tenant)]);
    let shown = value("key = { header = \"x-tenant\" }", &request).expect("a value");
    assert_eq!(shown, format!("{}…", "x".repeat(64)));
    let bytes = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    let mut shown = ShownValues::default();
    shown.push(Some(bytes.as_bytes()));
    assert_eq!(shown.into_text(), "\u{fffd}\u{fffd}");
}

#[test]
fn what_can_be_no_key_is_refused() {
    for (text, why) in [
        (
            "key = { tenant = \"a\" }",
            "unknown field `tenant`, expected one of `header`, `client`, ",
        ),
        ("key = { header = \"a\", client = true }", "expected one of header, client, "),
        ("key = {}", "expected one of header, client, path_segment, query, cookie, component"),
        ("key = \"header\"", "expected a source such as { header = \"x-tenant\" }, or a list"),
        ("key = []", "key: must have from 1 to 8 sources, has 0"),
        ("key = { header = \"a b\" }", "key: `a b` is no header's name"),
        ("key = { client = false }", "key: `client` must be true"),
        ("key = { path_segment = 0 }", "key: `path_segment` must be at least 1, is 0"),
        ("key = { path_segment = -1 }", "invalid value: integer `-1`"),
        ("key = { query = \"\" }", "key: needs the name of a parameter"),
        ("key = { component = \"a\" }", "key: no component `a`"),
        ("key = [{ cookie = \"\" }, { header = \"\" }]", "needs the name of a cookie; key: ``"),
    ] {
        let said = key(text).map(drop).expect_err(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    let nine = format!("key = [{}]", "{ client = true }, ".repeat(9));
    assert_eq!(key(&nine).map(drop), Err("key: must have from 1 to 8 sources, has 9".into()));
}

use super::*;

fn from_toml(text: &str) -> Result<Cases, String> {
    Cases::from_toml(text).map_err(|(line, error)| format!("{line}: {error:#}"))
}

const WHOLE: &str = r#"
[component]
settings = { codes = "-32603" }
peek_body = "16KiB"

[[case]]
name = "everything that a case can say"
request = { method = "POST", scheme = "https", authority = "b:1", path = "/rpc?x=1", headers = { accept = "a", via = ["1", "2"] } }
response = { status = 200, headers = { content-type = "application/json" }, body = "{}" }
attempt = 3
history = [{ status = 503, elapsed = "12ms" }, { failure = "timeout", elapsed = "1s" }]
elapsed = "2s"
remaining = "3s"
route = "/rpc"
policy = "retry"
asked = "abort-if"
settings = { codes = "1" }
expect = { handled = true }

[[case]]
name = "the least"
failure = "connect"
failure_detail = "connection_timeout"
expect = { declined = true }
"#;

#[test]
fn a_file_has_a_configuration_and_cases_with_their_lines() {
    let cases = from_toml(WHOLE).expect("it is right");
    assert_eq!(cases.all().iter().map(|case| case.line).collect::<Vec<_>>(), [6, 20]);
    let config = cases.config(Path::new("a.wasm")).expect("it is possible");
    assert_eq!((config.settings["codes"].as_str(), config.peek().map(|peek| peek.bytes)), ("-32603", Some(16 << 10)));
    assert_eq!((cases.len(), cases.is_empty()), (2, false));
}

#[test]
fn a_case_survives_being_written_as_a_line() {
    for case in from_toml(WHOLE).expect("it is right").all() {
        let line = serde_json::to_string(case).expect("it can be written");
        let read =
            Cases::from_lines(&format!("\n{{\"msg\":\"200: OK\"}}\n{line}\n{{\"msg\":\"x\",\"case\":{line}}}\n"));
        let read = read.expect("it can be read").cases;
        let expected = |line| Case { line, ..case.clone() };
        assert_eq!(read, [expected(3), expected(4)]);
    }
}

#[test]
fn mistakes_are_said_with_their_line() {
    let case = |rest: &str| format!("\n[[case]]\nname = 'a'\n{rest}\n");
    let of_response = |rest: &str| case(&format!("response = {{ status = 200 }}\n{rest}"));
    for (text, expected) in [
        (String::new(), "1: has no `[[case]]`"),
        ("[[case]]\n".into(), "1: missing field `name`"),
        ("[[caes]]\n".into(), "1: unknown field `caes`, expected `component` or `case`"),
        (of_response("expct = {}"), "5: unknown field `expct`"),
        (of_response(""), "2: missing field `expect`"),
        (of_response("expect = {}"), "2: `a`: `expect` needs one of `handled`, `response`, `declined` and `fault`"),
        (of_response("expect = { handled = true, declined = true }"), "2: `a`: `expect` needs one of"),
        (of_response("expect = { handled = 'yes' }"), "5: invalid type: string \"yes\", expected a boolean"),
        (of_response("expect = { declined = false }"), "2: `a`: `declined = false`: say which"),
        (of_response("expect = { handled = true, detail = 'x' }"), "2: `a`: `detail` is of a `fault`"),
        (of_response("expect = { fault = 'tarp' }"), "5: unknown variant `tarp`, expected one of `trap`"),
        (of_response("asked = 'respnd'\nexpect = { handled = true }"), "5: unknown variant `respnd`"),
        (
            of_response("elapsed = '5'\nexpect = { handled = true }"),
            "5: expected a duration such as \"250ms\", found `5`",
        ),
        (
            of_response("failure = 'dns'\nexpect = { handled = true }"),
            "2: `a`: expected either a `response` or a `failure`",
        ),
        (case("expect = { handled = true }"), "2: `a`: expected either a `response` or a `failure`"),
        (case("failure = 'dsn'\nexpect = { handled = true }"), "4: unknown variant `dsn`, expected one of `dns`"),
        (case("failure = 'dns'\nfailure_detail = 'x'\nexpect = { handled = true }"), "2: `a`: `dns` has no detail `x`"),
        (
            of_response("request = { headers = { a = 1 } }\nexpect = { handled = true }"),
            "5: expected a header value, or a list of them",
        ),
        (case("response = { status = 20 }\nexpect = { handled = true }"), "2: `a`: `response.status` must be within"),
        (
            of_response("history = [{ elapsed = '1s' }]\nexpect = { handled = true }"),
            "2: `a`: `history`: either a `status` or a `failure`",
        ),
    ] {
        let error = from_toml(&text).expect_err(expected);
        assert!(error.starts_with(expected), "{text}\nexpected {expected}\nfound    {error}");
    }
    let error = |text: &str| Cases::from_lines(text).map_err(|(line, error)| format!("{line}: {error:#}")).unwrap_err();
    assert_eq!(error("{\"msg\":\"x\"}\n"), "1: has no case in it");
    assert!(error("{\"msg\":\"x\"}\n{\"nam\":1}\n").starts_with("2: unknown field `nam`"));
    assert!(error("no JSON").starts_with("1: expected ident"));
}

#[test]
fn what_no_component_can_be_configured_with_is_an_error() {
    let error = |component: &str| {
        let text =
            format!("[component]\n{component}\n[[case]]\nname = 'a'\nfailure = 'dns'\nexpect = {{ handled = true }}");
        let error = from_toml(&text).expect("the cases are right").config(Path::new("a.wasm"));
        error.expect_err(component).to_string()
    };
    assert!(error("setings = {}").starts_with("component: unknown field `setings`"));
    assert_eq!(error("timeout = '0s'"), "component.timeout: must be more than 0 and at most 60s, is 0s");
}

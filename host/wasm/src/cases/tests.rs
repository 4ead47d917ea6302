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
response = { status = 200, headers = { a = "1" }, body = "{}", trailers = { b = "2" } }
attempt = 3
endpoint = "10.0.0.7:3001"
endpoint_protocol = "HTTP/2"
history = [{ status = 503, elapsed = "12ms" }, { failure = "timeout", elapsed = "1s" }]
elapsed = "2s"
remaining = "3s"
route = "/rpc"
policy = "retry"
asked = "abort-if"
settings = { codes = "1" }
expect = { handled = true }
[case.request]
method = "POST"
scheme = "https"
authority = "b:1"
path = "/rpc?x=1"
protocol = "HTTP/2"
headers = { accept = "a", via = ["1", "2"] }

[[case]]
name = "the least"
failure = "connect"
failure_detail = "connection_timeout"
expect = { declined = true }
"#;

#[test]
fn a_file_has_a_configuration_and_cases_with_their_lines() {
    let cases = from_toml(WHOLE).expect("it is right");
    assert_eq!(cases.all().iter().map(|case| case.line).collect::<Vec<_>>(), [6, 28]);
    let config = cases.config(Path::new("a.wasm")).expect("it is possible");
    assert_eq!(
        (config.settings["codes"].as_str(), config.peek().map(|peek| peek.bytes)),
        ("-32603", Some(16 << 10))
    );
}

#[test]
fn a_case_survives_being_written_as_a_line() {
    for case in from_toml(WHOLE).expect("it is right").all() {
        let line = serde_json::to_string(case).expect("it can be written");
        let read = Cases::from_lines(
            &format!("\n{{\"msg\":\"200: OK\"}}\n{line}\n{{\"msg\":\"x\",\"case\":{line}}}\n"),
            None,
        );
        let read = read.expect("it can be read").cases;
        let expected = |line| ComponentCase { line, ..case.clone() };
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
        (
            of_response("expect = {}"),
            "2: `a`: `expect` needs one of `handled`, `response`, `declined`, `delay`, `key` and \
             `fault`",
        ),
        (
            of_response("expect = { handled = true, declined = true }"),
            "2: `a`: `expect` needs one of",
        ),
        (
            of_response("expect = { handled = 'yes' }"),
            "5: invalid type: string \"yes\", expected a boolean",
        ),
        (of_response("expect = { declined = false }"), "2: `a`: `declined = false`: say which"),
        (
            of_response("expect = { handled = true, detail = 'x' }"),
            "2: `a`: `detail` is of a `fault`",
        ),
        (
            of_response("expect = { fault = 'tarp' }"),
            "5: unknown variant `tarp`, expected one of `trap`",
        ),
        (
            of_response("asked = 'respnd'\nexpect = { handled = true }"),
            "5: unknown variant `respnd`",
        ),
        (
            of_response("elapsed = '5'\nexpect = { handled = true }"),
            "5: expected a duration such as \"250ms\", found `5`",
        ),
        (
            of_response("failure = 'dns'\nexpect = { handled = true }"),
            "2: `a`: expected either a `response` or a `failure`",
        ),
        (
            case("expect = { handled = true }"),
            "2: `a`: expected either a `response` or a `failure`",
        ),
        (
            case("failure = 'dsn'\nexpect = { handled = true }"),
            "4: unknown variant `dsn`, expected one of `dns`",
        ),
        (
            case("failure = 'dns'\nfailure_detail = 'x'\nexpect = { handled = true }"),
            "2: `a`: `dns` has no detail `x`",
        ),
        (
            of_response("request = { headers = { a = 1 } }\nexpect = { handled = true }"),
            "5: expected a header value, or a list of them",
        ),
        (
            case("response = { status = 20 }\nexpect = { handled = true }"),
            "2: `a`: `response.status` must be from",
        ),
        (
            of_response(
                "request = { headers = { a = \"x\\r\\ny\" } }\nexpect = { handled = true }",
            ),
            "2: `a`: header `a`: a value with a character that no header may have",
        ),
        (
            of_response("request = { method = 'G T' }\nexpect = { handled = true }"),
            "2: `a`: request: invalid HTTP method",
        ),
        (
            of_response("request = { path = 'x' }\nexpect = { handled = true }"),
            "2: `a`: request.path: expected one that",
        ),
        (
            of_response("request = { protocol = 'h2' }\nexpect = { handled = true }"),
            "2: `a`: request.protocol: expected HTTP/1.0, HTTP/1.1 or HTTP/2, found `h2`",
        ),
        (
            of_response("endpoint = 'b:1'\nexpect = { handled = true }"),
            "5: invalid socket address syntax",
        ),
        (
            of_response("attempt = 0\nhistory = [{ status = 503 }]\nexpect = { handled = true }"),
            "2: `a`: `attempt` is less",
        ),
        (
            of_response("history = [{ status = 7 }]\nexpect = { handled = true }"),
            "2: `a`: `history`: status within",
        ),
        (
            of_response("expect = { delay = '5' }"),
            "5: expected a duration such as \"250ms\", found `5`; or \"own\" or \"give-up\"",
        ),
        (
            of_response("own = '1s'\nexpect = { handled = true }"),
            "2: `a`: `own` is of what asks for a delay",
        ),
        (
            of_response("count = 1\nexpect = { declined = true }"),
            "2: `a`: `count` is of what asks for a delay",
        ),
        (
            of_response("expect = { key = 'a' }"),
            "2: `a`: whose call it is is asked first: there is no outcome and no attempt yet",
        ),
        (case("x = 1").replace("'a'", "'a\\u0007'").replace('\'', "\""), "4: unknown field `x`"),
        (
            of_response("history = [{ elapsed = '1s' }]\nexpect = { handled = true }"),
            "2: `a`: `history`: either a `status` or a `failure`",
        ),
    ] {
        let error = from_toml(&text).expect_err(expected);
        assert!(error.starts_with(expected), "{text}\nexpected {expected}\nfound    {error}");
    }
    let error = |text: &str| {
        Cases::from_lines(text, None)
            .map_err(|(line, error)| format!("{line}: {error:#}"))
            .unwrap_err()
    };
    assert_eq!(error("{\"msg\":\"x\"}\n"), "1: has no case in it");
    assert!(error("{\"nam\":1}\n").starts_with("1: unknown field `nam`"));
    let edited = "{\"msg\":\"x\"}\n{\"msg\":\"x\",\"case\":{\"nam\":1}}\n";
    assert!(
        error(edited).starts_with("2: unknown field `nam`"),
        "a case in a log is held to the same"
    );
    assert!(error("no JSON").starts_with("1: expected a case as JSON on one line: "));
}

#[test]
fn what_no_component_can_be_configured_with_is_an_error() {
    let error = |component: &str| {
        let text = format!(
            "[component]\n{component}\n[[case]]\nname = 'a'\nfailure = 'dns'\n\
             expect = {{ handled = true }}"
        );
        let error = from_toml(&text).expect("the cases are right").config(Path::new("a.wasm"));
        error.expect_err(component).to_string()
    };
    assert!(error("setings = {}").contains(": component: unknown field `setings`"));
    assert!(error("file = 'b.wasm'").ends_with(": component: `file` is not for a file of cases"));
    assert_eq!(error("timeout = '0s'"), ": component.timeout: must be from 1ms to 1m, is 0s");
}

#[test]
fn what_others_wrote_into_a_log_is_passed_over_and_so_are_other_components() {
    let [case, other] = [1, 2].map(|line| ComponentCase {
        line,
        ..from_toml(WHOLE).expect("it is right").cases.remove(0)
    });
    let json = serde_json::to_string(&case).expect("it can be written");
    let log = format!(
        "{{\"msg\":\"x\",\"component\":\"a\",\"case\":{json}}}\nthread panicked\n\
         {{\"msg\":\"x\",\"component\":\"b\",\"case\":{json}}}\n{{\"msg\":\"half a li"
    );
    let lines = |component| Cases::from_lines(&log, component).expect("it can be read").cases;
    assert_eq!(lines(None).iter().map(|case| case.line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(lines(Some("a")), [case]);
    assert_eq!(lines(Some("b")), [ComponentCase { line: 3, ..other }]);
    assert!(Cases::from_lines(&log, Some("c")).is_err());
}

#[test]
fn many_cases_are_read_at_once() {
    let many =
        "[[case]]\nname = 'a'\nfailure = 'dns'\nexpect = { handled = true }\n".repeat(20_000);
    let cases = from_toml(&many).expect("they are right");
    assert_eq!(cases.all().last().map(|case| case.line), Some(4 * 19_999 + 1));
}

#[test]
fn more_headers_than_a_message_may_have_are_an_error() {
    let headers: Vec<_> = (0..40_000).map(|index| format!("x{index} = '1'")).collect();
    let text = format!(
        "[[case]]\nname = 'a'\nfailure = 'dns'\nexpect = {{ handled = true }}\n\
         request = {{ headers = {{ {} }} }}",
        headers.join(", ")
    );
    let error = from_toml(&text).expect_err("too many");
    assert_eq!(error, "1: `a`: more headers than a message may have: max size reached");
}

#[test]
fn a_file_that_does_not_end_is_none() {
    let error = Cases::read(Path::new("/dev/null"), None).expect_err("it is no file");
    assert_eq!(format!("{error:#}"), "/dev/null: is not a regular file");
}

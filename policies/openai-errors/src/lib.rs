//! APIs of language models report errors with status 200 too: in the JSON of an answer, and as the
//! first event of a stream. Takes those that another attempt may mend for failures.
//!
//! It knows the shapes of OpenAI (chat completions, responses), and of those that speak like it:
//! `error`, whose `type` and `code` say what it is; `type = "error"` with the code beside it; a
//! response whose `status` is `failed`. Anthropic's `{"type": "error", "error": {"type": …}}` and
//! the numbers that OpenRouter has for a `code` are among them.
//!
//! An error that stays the same however often one asks is no failure: a setting, `permanent`, lists
//! its types and codes, with `*` at an end for all that begin so. Status alone decides for others
//! than 200: 408, 409, 429 and 5xx, as in OpenAI's own clients, unless the body says `permanent`.
//! `x-should-retry` of an answer wins over everything, as it does there.
//!
//! It sees as much of a body as `peek_body` of the component allows; of a stream the first event,
//! for which `peek_timeout` should leave the time that a model takes to its first word.

mod json;

use std::sync::LazyLock;

use exports::fusebox::policy::predicate;
use fusebox::policy::types::Outcome;
use fusebox::policy::{attempt, settings};

use json::{member, text};

wit_bindgen::generate!({ path: "../../wit", world: "predicate-policy" });

struct OpenaiErrors;

export!(OpenaiErrors);

const PERMANENT: &str = "invalid_*, unsupported_*, image_*, empty_image_file, \
    authentication_error, permission_error, not_found_error, model_not_found, request_too_large, \
    context_length_exceeded, content_filter, content_policy_violation, insufficient_quota, \
    billing_*";

/// Read once: settings don't change while an instance lives.
static PERMANENT_WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = settings::get("permanent").unwrap_or_else(|| PERMANENT.into());
    let words: Vec<String> = list.split(',').map(|word| word.trim().to_owned()).collect();
    let is_word = |word: &str| {
        let letters = word.strip_suffix('*').unwrap_or(word);
        letters.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    if let Some(word) = words.iter().find(|word| !is_word(word)) {
        panic!("setting `permanent`: expected types and codes between commas, found `{word}`");
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
});

impl predicate::Guest for OpenaiErrors {
    fn handle_if(outcome: Outcome) -> bool {
        // A setting that makes no sense shows when the component starts, not with the first error.
        let permanent = &*PERMANENT_WORDS;
        let Outcome::Response(status) = outcome else { return true };
        match attempt::response_header("x-should-retry").as_deref() {
            Some("true") => return true,
            Some("false") => return false,
            _ => {}
        }
        match status {
            200 => judge(permanent).unwrap_or(false),
            408 | 409 | 429 | 500.. => judge(permanent).unwrap_or(true),
            _ => false,
        }
    }
}

/// Whether the body's error may pass; `None` if it has none.
fn judge(permanent: &[String]) -> Option<bool> {
    let kind = attempt::response_header("content-type")?.to_ascii_lowercase();
    let is_stream = kind.starts_with("text/event-stream");
    if !is_stream && !kind.contains("json") {
        return None;
    }
    // A body that is cut off within a character is no text to the host.
    let bytes = attempt::response_body(0, u32::MAX);
    let body = String::from_utf8_lossy(&bytes);
    let data = if is_stream { first_data(&body)? } else { body.into_owned() };
    let reported = reported(&data)?;
    Some(!reported.is_permanent(permanent))
}

/// An error as an API reports it.
#[derive(Debug, PartialEq)]
struct Reported<'a> {
    kind: Option<&'a str>,
    code: Option<&'a str>,
}

impl Reported<'_> {
    fn is_permanent(&self, words: &[String]) -> bool {
        if let Some(status) = self.code.and_then(|code| code.parse::<u16>().ok()) {
            return (400..500).contains(&status) && !matches!(status, 408 | 409 | 429);
        }
        [self.kind, self.code].into_iter().flatten().any(|found| {
            words.iter().any(|word| match word.strip_suffix('*') {
                Some(beginning) => found.starts_with(beginning),
                None => found == word,
            })
        })
    }
}

/// The error in the JSON of an answer or of an event, whole or cut off.
fn reported(json: &str) -> Option<Reported<'_>> {
    let of = |error| Reported {
        kind: member(error, "type").and_then(text),
        code: member(error, "code").and_then(text),
    };
    if let Some(error) = member(json, "error").filter(|error| !error.starts_with("null")) {
        // Some say it in a word.
        return Some(
            text(error).map_or_else(|| of(error), |code| Reported { kind: None, code: Some(code) }),
        );
    }
    match member(json, "type").and_then(text) {
        // Its `type` says no more than that.
        Some("error") => Some(Reported { kind: None, ..of(json) }),
        // An event of a stream of responses has the response in it.
        Some("response.failed") => {
            let response = member(json, "response")?;
            Some(member(response, "error").map_or(Reported { kind: None, code: None }, of))
        }
        _ => None,
    }
}

/// The data of the first event of a stream that has some; its lines are one text.
fn first_data(stream: &str) -> Option<String> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    stream.split("\n\n").find_map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        (!data.is_empty()).then(|| data.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<(Option<&str>, Option<&str>)> {
        reported(json).map(|Reported { kind, code }| (kind, code))
    }

    #[test]
    fn errors_are_found_in_each_shape() {
        let cases: [(&str, Option<(Option<&str>, Option<&str>)>); 9] = [
            (
                r#"{"error": {"type": "server_error", "code": null}}"#,
                Some((Some("server_error"), None)),
            ),
            (r#"{"error": {"code": 502, "message": "no"}}"#, Some((None, Some("502")))),
            (r#"{"error": "overloaded"}"#, Some((None, Some("overloaded")))),
            (
                r#"{"type":"error","code":"server_error","message":"x"}"#,
                Some((None, Some("server_error"))),
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#,
                Some((None, Some("server_error"))),
            ),
            (r#"{"type":"response.created","response":{"error":null}}"#, None),
            (r#"{"id":"x","error":null,"output":[{"error":{"code":1}}]}"#, None),
            (r#"{"choices":[{"delta":{"content":"\"error\": {}"}}]}"#, None),
            ("", None),
        ];
        for (json, error) in cases {
            assert_eq!(found(json), error, "{json}");
        }
    }

    #[test]
    fn what_asking_again_cannot_mend_is_permanent() {
        let words: Vec<String> = PERMANENT.split(',').map(|word| word.trim().into()).collect();
        let is_permanent = |kind, code| Reported { kind, code }.is_permanent(&words);
        assert!(is_permanent(Some("invalid_request_error"), None));
        assert!(is_permanent(None, Some("insufficient_quota")));
        assert!(is_permanent(None, Some("402")));
        assert!(!is_permanent(Some("overloaded_error"), None));
        assert!(!is_permanent(None, Some("429")));
        assert!(!is_permanent(None, Some("503")));
        assert!(!is_permanent(None, None));
    }

    #[test]
    fn the_first_event_with_data_counts() {
        assert_eq!(
            first_data(": hello\n\nevent: e\ndata: a\ndata:b\n\ndata: c\n\n").as_deref(),
            Some("a\nb")
        );
        assert_eq!(first_data("data: a\r\n\r\n").as_deref(), Some("a"));
        assert_eq!(first_data(": hello\n\n"), None);
    }
}

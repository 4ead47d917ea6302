//! GraphQL reports its errors with status 200: takes an answer with a non-empty `errors` for a
//! failure.
//!
//! It decides alone, so what any service may suffer counts too: no response at all, and 5xx. It
//! sees as much of a body as `peek_body` of the component allows, and nothing without that. In a
//! body that is cut off there, `errors` counts as far as it can be seen; servers that follow the
//! specification's advice put it first.

use exports::fusebox::policy::predicate;
use fusebox::policy::attempt;
use fusebox::policy::types::Outcome;

wit_bindgen::generate!({ path: "../../wit", world: "predicate-policy" });

struct GraphqlErrors;

export!(GraphqlErrors);

impl predicate::Guest for GraphqlErrors {
    fn handle_if(outcome: Outcome) -> bool {
        match outcome {
            Outcome::Response(200) => {
                is_json() && attempt::response_body_text().is_some_and(|body| has_errors(&body))
            }
            Outcome::Response(status) => status >= 500,
            Outcome::Failure(_) => true,
        }
    }
}

/// `application/json` or `application/graphql-response+json`.
fn is_json() -> bool {
    attempt::response_header("content-type")
        .is_some_and(|value| value.to_ascii_lowercase().contains("json"))
}

/// Whether the outermost object has a member `errors` that is an array with something in it.
fn has_errors(json: &str) -> bool {
    let mut rest = json.as_bytes();
    let mut depth = 0_usize;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        match token {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let Some((text, after)) = split_string(rest) else { return false };
                rest = after;
                if depth == 1
                    && text == b"errors"
                    && let Some(value) = rest.trim_ascii_start().strip_prefix(b":")
                {
                    let items = value.trim_ascii_start().strip_prefix(b"[").unwrap_or_default();
                    return items.trim_ascii_start().first().is_some_and(|first| *first != b']');
                }
            }
            _ => {}
        }
    }
    false
}

/// A string up to its closing quote, and what follows; none if it is cut off.
fn split_string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let end = json.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some((&json[..end], &json[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::has_errors;

    #[test]
    fn errors_of_the_outermost_object_count() {
        assert!(has_errors(r#"{"errors": [{"message": "no"}], "data": null}"#));
        assert!(has_errors(r#"{"data": {"a": "}\"\\"}, "errors" : [ 1 ]}"#));
        for clean in [
            r#"{"data": {"errors": ["mine"]}}"#,
            r#"{"errors": []}"#,
            r#"{"errors": null}"#,
            r#"{"data": "\"errors\": [1]"}"#,
            r#"["errors"]"#,
            "",
        ] {
            assert!(!has_errors(clean), "{clean}");
        }
    }

    #[test]
    fn a_body_cut_off_counts_as_far_as_it_can_be_seen() {
        assert!(has_errors(r#"{"errors": [{"mess"#));
        assert!(!has_errors(r#"{"errors": ["#));
        assert!(!has_errors(r#"{"data": {"erro"#));
    }
}

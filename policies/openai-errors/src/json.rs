//! Just enough JSON to find members of an object in a text that may be cut off.

/// What comes from the value on of a member of this name, of the object that the text begins with.
pub(crate) fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = json.trim_ascii_start().strip_prefix('{')?;
    let mut depth = 0_usize;
    loop {
        let next = rest.find(['{', '[', '}', ']', '"'])?;
        let (token, after) = (rest.as_bytes()[next], &rest[next + 1..]);
        rest = after;
        match token {
            b'{' | b'[' => depth += 1,
            b'"' => {
                let (string, after) = split_string(rest)?;
                rest = after;
                if depth == 0
                    && string == name
                    && let Some(value) = rest.trim_ascii_start().strip_prefix(':')
                {
                    return Some(value.trim_ascii_start());
                }
            }
            _ => depth = depth.checked_sub(1)?,
        }
    }
}

/// The string or number that the text begins with; escapes stay as they are.
pub(crate) fn text(json: &str) -> Option<&str> {
    if let Some(string) = json.strip_prefix('"') {
        return Some(split_string(string)?.0);
    }
    let end = json.find(|c: char| !c.is_ascii_digit())?;
    (end > 0).then(|| &json[..end])
}

/// A string up to its closing quote, and what follows; `None` if it is cut off.
fn split_string(json: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = json.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&json[..end], &json[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_outermost_object_are_found() {
        let json = r#" {"a": {"b": 1, "x": [{"c": 2}]}, "b" : "t\"}", "c":34,"d""#;
        assert_eq!(member(json, "b").and_then(text), Some(r#"t\"}"#));
        assert_eq!(member(json, "c").and_then(text), Some("34"));
        assert_eq!(member(json, "a").and_then(|a| member(a, "b")).and_then(text), Some("1"));
        assert_eq!(member(json, "a").and_then(|a| member(a, "c")), None);
        for (json, name) in [(json, "x"), (json, "d"), (json, "e"), ("[1]", "a"), ("", "a")] {
            assert_eq!(member(json, name), None, "{name} of {json}");
        }
    }

    #[test]
    fn a_value_that_is_cut_off_is_none() {
        assert_eq!(text("\"over"), None);
        assert_eq!(text("50"), None);
        assert_eq!(text("null"), None);
    }
}

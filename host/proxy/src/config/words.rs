//! Error messages in the words of the reference, not those of serde and Rust.

use toml::de::DeValue;

use super::long_texts::shortened;

/// What the TOML crate says of tables and lists nested deeper than it follows.
pub(super) const TOO_DEEP: &str = "cannot recurse further; max recursion depth met";

/// Whether a string is where something else is expected, or another one.
pub(super) fn is_of_string(error: &toml::de::Error) -> bool {
    let message = error.message();
    let of_type = message.strip_prefix("invalid type: ");
    of_type.or(message.strip_prefix("invalid value: ")).is_some_and(|of| of.starts_with("string "))
}

/// Rewrites a message of serde in one line.
pub(super) fn in_plain_words(message: &str) -> String {
    let mut plain = message.replace('\n', ", ");
    for (rust, word) in [
        ("expected i64", "expected a whole number"),
        ("expected u64", "expected a whole number of at least 0"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number of at least 0"),
        ("expected usize", "expected a whole number of at least 0"),
        ("expected f64", "expected a number"),
        ("expected parsable string", "expected a size such as \"64KiB\""),
        ("expected path string", "expected a string"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
        ("invalid float, expected nothing", "not a number; text must be in quotes"),
        ("unknown field", "unknown key"),
        ("missing field", "missing key"),
        ("unknown variant", "unknown value"),
        (TOO_DEEP, "nested too deep"),
        ("wanted string or table", "expected a string"),
    ] {
        plain = plain.replace(rust, word);
    }
    if let Some((before, known)) = plain.split_once(", expected one of ") {
        return format!("{before}; expected one of {}", known.replace('`', ""));
    }
    if let Some((before, _)) = plain.split_once("expected struct ") {
        plain = format!("{before}expected a table");
    }
    let (of_type, of_value) =
        (plain.strip_prefix("invalid type: "), plain.strip_prefix("invalid value: "));
    // What was found may have these words in it.
    let wrong = of_type.or(of_value).and_then(|wrong| wrong.rsplit_once(", expected "));
    match wrong {
        Some((found, expected)) => {
            format!("expected {expected}, found {}", as_written(found, of_type.is_some()))
        }
        None => plain,
    }
}

/// A string where something else is expected: without its quotes, `"2"` would look right.
fn quoted(text: &str) -> String {
    format!("`\"{}\"`", shortened(text))
}

/// The value that serde found, as the file has it.
fn as_written(found: &str, is_of_wrong_type: bool) -> String {
    let string = found.strip_prefix("string \"").and_then(|rest| rest.strip_suffix('"'));
    match string {
        Some(text) if is_of_wrong_type => return quoted(text),
        Some(text) => return format!("`{}`", shortened(text)),
        None => {}
    }
    let words = [
        ("integer ", ""),
        ("floating point ", ""),
        ("boolean ", ""),
        ("map", "a table"),
        ("sequence", "a list"),
    ];
    let word = words
        .iter()
        .find_map(|(rust, word)| found.strip_prefix(rust).map(|rest| format!("{word}{rest}")));
    let word = word.unwrap_or_else(|| found.to_owned());
    word.replace('"', "`").replace("` as i128", "`, which is too large")
}

/// The value that was found, as the file has it.
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("`{number}`"),
        DeValue::Float(number) => format!("`{number}`"),
        DeValue::Boolean(is_true) => format!("`{is_true}`"),
        DeValue::Datetime(time) => format!("`{time}`"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

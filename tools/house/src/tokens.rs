//! Rust code as tokens, as far as imports need them: no comments, no literals but strings.

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// An identifier or a keyword.
    Word(&'a str),
    /// A string literal, without quotes.
    Text(&'a str),
    /// `::`
    PathSeparator,
    /// Any other sign.
    Sign(char),
}

/// All tokens of a file.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut rest = code;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some((length, text)) = string(rest) {
            tokens.push(Token::Text(text));
            length
        } else if first == '\'' {
            quote(rest)
        } else if first.is_ascii_digit() {
            number(rest)
        } else if is_word(first) {
            let length = word(rest);
            tokens.push(Token::Word(&rest[..length]));
            length
        } else if rest.starts_with("::") {
            tokens.push(Token::PathSeparator);
            2
        } else {
            tokens.push(Token::Sign(first));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

fn word(code: &str) -> usize {
    // A raw identifier is never a keyword.
    let prefix = if code.starts_with("r#") { 2 } else { 0 };
    code[prefix..].find(|letter| !is_word(letter)).map_or(code.len(), |end| prefix + end)
}

fn number(code: &str) -> usize {
    let mut end = word(code);
    let fraction = code[end..].strip_prefix('.').unwrap_or_default();
    if fraction.starts_with(|digit: char| digit.is_ascii_digit()) {
        end += 1 + word(fraction);
    }
    end
}

/// Block comments nest.
fn comment(code: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < code.len() {
        let rest = &code.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a string literal of any kind, and what is between its quotes.
fn string(code: &str) -> Option<(usize, &str)> {
    let kind = ["br", "cr", "b", "c", "r", ""].into_iter().find(|kind| {
        let rest = code.strip_prefix(kind).unwrap_or_default();
        let quote = if kind.ends_with('r') { rest.trim_start_matches('#') } else { rest };
        quote.starts_with('"')
    })?;
    let rest = &code[kind.len()..];
    if kind.ends_with('r') {
        let hashes = rest.find('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let text = &rest[hashes + 1..];
        let length = text.find(&end).unwrap_or(text.len());
        let whole = kind.len() + hashes + 1 + length + end.len();
        return Some((whole.min(code.len()), &text[..length]));
    }
    let text = rest.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = text.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    });
    let length = end.unwrap_or(text.len());
    Some(((kind.len() + length + 2).min(code.len()), &text[..length]))
}

/// The length of a character literal, or of a lifetime's quote.
fn quote(code: &str) -> usize {
    let mut letters = code.char_indices().skip(1);
    match (letters.next(), letters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let behind = escaped + 1;
            code[behind..].find('\'').map_or(code.len(), |end| behind + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(code: &str) -> Vec<&str> {
        tokens(code)
            .into_iter()
            .filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None })
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        assert_eq!(words("a // b\n /* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r##"a "b \" c" d r#"e " f"# g b"h" br"i" j"##), ["a", "d", "g", "j"]);
        assert_eq!(words(r"a 'b' '\'' '\u{63}' '\\' d"), ["a", "d"]);
        assert_eq!(words("a<'b> 1.5e3 0xcafe_u8 0..n t.0"), ["a", "b", "n", "t"]);
        assert_eq!(words("r#type raw"), ["r#type", "raw"]);
    }

    #[test]
    fn strings_keep_their_text() {
        assert_eq!(tokens(r#"path = "a.rs""#)[2], Token::Text("a.rs"));
        assert_eq!(tokens("a::b")[1], Token::PathSeparator);
    }
}

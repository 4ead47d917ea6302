//! What is wrong with a head that `httparse` does not take. It says which part; a log line needs
//! more.
//!
//! What is found must not depend on how much has come behind it: a head that comes in pieces is
//! refused for the same reason.

use httparse::Error;

use super::fault::RequestFault;

const VERSION: &str = "HTTP/1.1";

/// `None`: that can't be told before more of it has come.
#[cold]
pub(super) fn diagnose(bytes: &[u8], error: Error) -> Option<RequestFault> {
    Some(match error {
        Error::TooManyHeaders => RequestFault::TooManyFields,
        Error::HeaderName => wrong_name(bytes),
        Error::HeaderValue => wrong_value(bytes),
        Error::NewLine => wrong_line_end(bytes),
        Error::Version if is_cut_short(after_target(bytes)) => return None,
        Error::Version if names_a_version(after_target(bytes)) => RequestFault::Version,
        Error::Token if is_target_broken(bytes) => RequestFault::Target,
        Error::Version | Error::Token | Error::Status => RequestFault::RequestLine,
    })
}

/// A head that is longer than it may be.
#[cold]
pub(super) fn too_large(bytes: &[u8]) -> RequestFault {
    let in_target = bytes.contains(&b' ') && !bytes.contains(&b'\n');
    if in_target { RequestFault::TargetTooLong } else { RequestFault::TooLarge }
}

/// Lines without their LF, and the last one even if it has not ended.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn wrong_name(bytes: &[u8]) -> RequestFault {
    let is_name = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':');
        colon.is_some_and(|at| at > 0 && line[..at].iter().all(|byte| is_token(*byte)))
    };
    let wrong = lines(bytes).skip(1).find(|line| !is_name(line));
    match wrong.and_then(<[u8]>::first) {
        Some(b' ' | b'\t') => RequestFault::Folding,
        _ => RequestFault::FieldName,
    }
}

fn wrong_value(bytes: &[u8]) -> RequestFault {
    for line in lines(bytes).skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t') {
            Some(b'\r') => return RequestFault::LineEnd,
            Some(_) => return RequestFault::FieldValue,
            None => {}
        }
    }
    RequestFault::FieldValue
}

/// At the end of the request line or in the place of the blank one.
fn wrong_line_end(bytes: &[u8]) -> RequestFault {
    match after_target(bytes).get(VERSION.len()) {
        Some(b'\r' | b'\n') => RequestFault::LineEnd,
        _ => RequestFault::RequestLine,
    }
}

fn after_target(bytes: &[u8]) -> &[u8] {
    bytes.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default()
}

fn is_cut_short(version: &[u8]) -> bool {
    version.len() < VERSION.len() && !version.contains(&b'\n')
}

fn names_a_version(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor, ..]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// Whether the first byte that is wrong stands in the target.
fn is_target_broken(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(rest)) = (parts.next(), parts.next()) else { return false };
    let is_method = !method.is_empty() && method.iter().all(|byte| is_token(*byte));
    let wrong = rest.iter().find(|byte| byte.is_ascii_control() || **byte == b' ');
    is_method && wrong.is_some_and(|byte| !b" \r\n".contains(byte))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

//! Why a client's bytes are no request.

use std::fmt;

use http::StatusCode;

use crate::limits::{MAX_BLANK_LINES, MAX_HEADERS};

/// Why a request head is refused. Nothing of its connection can be used any more: answer with
/// [`status`](Self::status), and close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestFault {
    /// Before the request line.
    BlankLines,
    /// It is not method, target and version: HTTP/0.9, TLS, anything else.
    RequestLine,
    /// A version other than 1.0 and 1.1.
    Version,
    /// A `CONNECT`.
    Connect,
    /// A target that is none, or none for this method.
    Target,
    /// A target that is longer than a head may be.
    TargetTooLong,
    /// A head that is longer than it may be.
    TooLarge,
    /// More than [`MAX_HEADERS`].
    TooManyFields,
    /// A CR or LF without the other.
    LineEnd,
    /// A line that continues the one before.
    Folding,
    /// A line without a name, also one with whitespace before its colon.
    FieldName,
    /// A value with NUL or another control character.
    FieldValue,
    /// A `Content-Length` that is not digits, or more than fit.
    ContentLength,
    /// Several lengths that differ.
    DifferentLengths,
    /// A length beside a transfer coding.
    LengthAndCoding,
    /// A transfer coding in HTTP/1.0, which knows none.
    CodingInHttp10,
    /// Other transfer codings than one `chunked`.
    Coding,
}

impl RequestFault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::BlankLines,
        Self::RequestLine,
        Self::Version,
        Self::Connect,
        Self::Target,
        Self::TargetTooLong,
        Self::TooLarge,
        Self::TooManyFields,
        Self::LineEnd,
        Self::Folding,
        Self::FieldName,
        Self::FieldValue,
        Self::ContentLength,
        Self::DifferentLengths,
        Self::LengthAndCoding,
        Self::CodingInHttp10,
        Self::Coding,
    ];

    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect | Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A label for a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlankLines => "blank-lines",
            Self::RequestLine => "request-line",
            Self::Version => "version",
            Self::Connect => "connect",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::TooLarge => "too-large",
            Self::TooManyFields => "too-many-fields",
            Self::LineEnd => "line-end",
            Self::Folding => "folding",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::ContentLength => "content-length",
            Self::DifferentLengths => "different-lengths",
            Self::LengthAndCoding => "length-and-coding",
            Self::CodingInHttp10 => "coding-in-http-1.0",
            Self::Coding => "coding",
        }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlankLines => {
                return write!(f, "more than {MAX_BLANK_LINES} blank lines before the request");
            }
            Self::TooManyFields => return write!(f, "more than {MAX_HEADERS} header fields"),
            Self::RequestLine => "the first line is not `METHOD TARGET HTTP/1.1`",
            Self::Version => "another version than HTTP/1.0 and HTTP/1.1",
            Self::Connect => "CONNECT is not supported",
            Self::Target => "invalid request target",
            Self::TargetTooLong => "the request target is too long",
            Self::TooLarge => "the request head is too large",
            Self::LineEnd => "a line of the head does not end with CR LF",
            Self::Folding => "a line of the head continues the one before",
            Self::FieldName => "a line of the head is not `NAME: VALUE`",
            Self::FieldValue => "control character in a header field, or white space around it",
            Self::ContentLength => "Content-Length is not a number",
            Self::DifferentLengths => "several values of Content-Length",
            Self::LengthAndCoding => "Content-Length beside Transfer-Encoding",
            Self::CodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::Coding => "another transfer coding than `chunked`",
        })
    }
}

impl std::error::Error for RequestFault {}

//! How bodies end.

/// How a response's body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; after none where there can't be any.
    Length(u64),
    /// It says so itself.
    Chunked,
    /// With its connection.
    UntilClose,
}

/// How the server knows where a request's body ends (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body. A `Content-Length` among the headers, which can only be 0, goes on as it
    /// is.
    None,
    /// After so many bytes.
    Length(u64),
    /// It says so itself.
    Chunked,
}

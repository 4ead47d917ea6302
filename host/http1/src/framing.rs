//! How bodies end.

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; after none where there can't be any.
    Length(u64),
    /// It says so itself.
    Chunked,
    /// With its connection, which only a response may.
    UntilClose,
}

/// How the server knows where a request's body ends (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body. A `Content-Length` of 0 among the headers goes on.
    None,
    /// After so many bytes.
    Length(u64),
    /// It says so itself.
    Chunked,
}

impl From<RequestFraming> for Framing {
    fn from(framing: RequestFraming) -> Self {
        match framing {
            RequestFraming::None => Self::Length(0),
            RequestFraming::Length(length) => Self::Length(length),
            RequestFraming::Chunked => Self::Chunked,
        }
    }
}

//! Limits of heads and trailers.

/// Headers of a request's head, and of trailers: as many as hyper and most servers take.
pub const MAX_HEADERS: usize = 100;

/// Headers of a response's head. Upstreams are not hostile as a rule, and some set a cookie for
/// each of many things: what bounds them is the length of the head, and this is behind it.
pub(crate) const MAX_RESPONSE_HEADERS: usize = 1_000;

/// Blank lines before a request that are passed over: some clients send one after a body (RFC 9112,
/// section 2.2).
pub(crate) const MAX_BLANK_LINES: u8 = 4;

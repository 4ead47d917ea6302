//! Limits of heads and trailers.

/// Headers of a head, and of trailers: as many as hyper and most servers take.
pub const MAX_HEADERS: usize = 100;

/// Blank lines before a request that are passed over: some clients send one after a body (RFC 9112,
/// section 2.2).
pub(crate) const MAX_BLANK_LINES: u8 = 4;

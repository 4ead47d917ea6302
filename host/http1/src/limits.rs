//! Limits of both heads and trailers.

/// Headers of a head, and of trailers: as many as hyper and most servers take.
pub const MAX_HEADERS: usize = 100;

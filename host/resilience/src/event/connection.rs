//! What happens on a client's connection beside its calls.

use std::net::IpAddr;

/// Something happened on a client's connection.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionEvent {
    /// What came was no request, or not all of one in time: the client was told so, and the
    /// connection ends.
    Refused {
        /// The client's address.
        client: IpAddr,
        /// What the client got.
        status: u16,
        /// Why, in a word for metrics.
        reason: &'static str,
        /// Why, in words.
        words: String,
        /// How often that happened since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
}

//! What happens to certificates and the files that they are read from.

use std::time::SystemTime;

/// Something happened to a certificate's file.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateEvent {
    /// What it has now is used from here on.
    Replaced {
        /// The file, as the configuration names it.
        file: String,
        /// Until when a certificate of our own is valid.
        until: Option<SystemTime>,
    },
    /// What it has now can't be used: what was used before stays.
    Rejected {
        /// The file, as the configuration names it.
        file: String,
        /// Why.
        reason: String,
    },
}

//! Why a handshake or a connection over TLS fails, in a word and in words.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use fusebox_resilience::HandshakeFailure;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::certificate::date;

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFailure {
    pub(crate) reason: HandshakeFailure,
    /// Why, in words.
    pub(crate) words: String,
}

impl TlsFailure {
    /// What an error of a stream over TLS tells. `None`: it is none of TLS.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let (reason, words) = match error {
            Error::AlertReceived(alert) => {
                (HandshakeFailure::Alert, format!("it says {}", AlertWord(*alert)))
            }
            Error::NoCertificatesPresented => {
                (HandshakeFailure::NoCertificate, "it has no certificate".to_owned())
            }
            Error::InvalidCertificate(error) => {
                (HandshakeFailure::Certificate, format!("its certificate {}", Flaw(error)))
            }
            Error::PeerIncompatible(error) => {
                (HandshakeFailure::Incompatible, incompatible(error).to_owned())
            }
            Error::NoApplicationProtocol => (
                HandshakeFailure::Incompatible,
                "it speaks none of our protocols above TLS".to_owned(),
            ),
            error => (HandshakeFailure::Invalid, format!("it sent no valid TLS: {error}")),
        };
        Some(Self { reason, words })
    }

    /// The same of a handshake, where everything else means that the other side is gone.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        Self::of(error).unwrap_or_else(|| Self {
            reason: HandshakeFailure::Left,
            words: "it left during the handshake".to_owned(),
        })
    }
}

fn incompatible(error: &PeerIncompatible) -> &'static str {
    match error {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "it speaks no version of TLS that we do"
        }
        PeerIncompatible::NoCipherSuitesInCommon => "it has no cipher suite that we have",
        PeerIncompatible::NoKxGroupsInCommon => "it has no way to exchange keys that we have",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "it takes no signature that our key can make"
        }
        _ => "it needs what we do not have",
    }
}

/// As RFC 8446 has it: `unknown_ca`.
struct AlertWord(AlertDescription);

impl fmt::Display for AlertWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let camel = format!("{:?}", self.0);
        let chars: Vec<char> = camel.chars().collect();
        for (at, char) in chars.iter().enumerate() {
            let is_lower = |at: usize| chars.get(at).is_some_and(char::is_ascii_lowercase);
            let begins =
                char.is_ascii_uppercase() && at > 0 && (is_lower(at - 1) || is_lower(at + 1));
            write!(f, "{}{}", if begins { "_" } else { "" }, char.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// What is wrong with a certificate: goes on after "its certificate".
struct Flaw<'a>(&'a CertificateError);

impl fmt::Display for Flaw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CertificateError::Expired => f.write_str("has expired"),
            CertificateError::ExpiredContext { not_after, .. } => {
                write!(f, "has expired, on {}", on(*not_after))
            }
            CertificateError::NotValidYet => f.write_str("is not valid yet"),
            CertificateError::NotValidYetContext { not_before, .. } => {
                write!(f, "is not valid before {}", on(*not_before))
            }
            CertificateError::UnknownIssuer => f.write_str("is signed by nobody who is trusted"),
            CertificateError::BadSignature => f.write_str("has a wrong signature"),
            CertificateError::NotValidForName => f.write_str("is for another name"),
            CertificateError::NotValidForNameContext { expected, presented } => {
                write!(f, "is not for {}, but for ", expected.to_str())?;
                // As in `DnsName("b.example")`.
                let names = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name));
                let names: Vec<_> = names.collect();
                f.write_str(if names.is_empty() { "nothing" } else { "" })?;
                f.write_str(&names.join(", "))
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                f.write_str("is for another purpose")
            }
            CertificateError::BadEncoding => f.write_str("is not encoded as it should be"),
            other => write!(f, "is not valid: {other}"),
        }
    }
}

fn on(time: UnixTime) -> String {
    date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_the_name_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
            (AlertDescription::UnknownPSKIdentity, "unknown_psk_identity"),
            (AlertDescription::CloseNotify, "close_notify"),
            (AlertDescription::NoApplicationProtocol, "no_application_protocol"),
        ] {
            assert_eq!(AlertWord(alert).to_string(), name);
        }
    }
}

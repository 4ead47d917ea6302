//! What a certificate says.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate that ends within this time is to be replaced soon,
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// or within this part of its life, if that is shorter.
const LAST_PART: u32 = 5;

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    /// As in `CN=b,O=Example` (RFC 4514).
    pub(crate) subject: String,
    /// The other names of its subject.
    pub(crate) names: Vec<SubjectName>,
    /// From when on it is valid,
    pub(crate) from: SystemTime,
    /// and until when.
    pub(crate) until: SystemTime,
}

/// A certificate that the other side has shown, and that has been verified.
#[derive(Clone, Debug)]
pub(crate) struct ShownCertificate {
    pub(crate) facts: CertificateFacts,
    /// Its SHA-256.
    pub(crate) fingerprint: [u8; 32],
}

/// Another name of a certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectName {
    Dns(String),
    Uri(String),
    Email(String),
    Ip(IpAddr),
}

impl CertificateFacts {
    /// Those of this certificate.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = Certificate::from_der(certificate)
            .map_err(|error| format!("is not a certificate: {error}"))?;
        let parsed = parsed.tbs_certificate();
        let names = parsed.get_extension::<SubjectAltName>().ok().flatten();
        let names = names.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        Ok(Self {
            subject: parsed.subject().to_string(),
            names: names.into_iter().filter_map(SubjectName::of).collect(),
            from: UNIX_EPOCH + parsed.validity().not_before.to_unix_duration(),
            until: UNIX_EPOCH + parsed.validity().not_after.to_unix_duration(),
        })
    }

    /// The hosts that it is for, in lower case; one may begin with `*.`.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = String> {
        self.names.iter().filter_map(|name| match name {
            SubjectName::Dns(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
    }

    /// What somebody should know about its time.
    pub(crate) fn remark(&self, now: SystemTime) -> Option<String> {
        if self.is_over(now) {
            return Some(format!("has expired, on {}", date(self.until)));
        }
        if self.from > now {
            return Some(format!("is not valid before {}", date(self.from)));
        }
        let whole = self.until.duration_since(self.from).unwrap_or_default();
        let left = self.until.duration_since(now).unwrap_or_default();
        let is_soon = left < SOON.min(whole / LAST_PART);
        is_soon.then(|| format!("expires soon, on {}", date(self.until)))
    }

    /// Whether it has expired.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.until < now
    }
}

impl ShownCertificate {
    /// `None`: what it says can't be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let facts = CertificateFacts::of(certificate).ok()?;
        Some(Self { facts, fingerprint: Sha256::digest(certificate).into() })
    }
}

impl SubjectName {
    fn of(name: GeneralName) -> Option<Self> {
        Some(match name {
            GeneralName::DnsName(name) => Self::Dns(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => Self::Uri(name.to_string()),
            GeneralName::Rfc822Name(name) => Self::Email(name.to_string()),
            GeneralName::IpAddress(bytes) => Self::Ip(match bytes.as_bytes() {
                bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
                bytes => <[u8; 16]>::try_from(bytes).ok()?.into(),
            }),
            _ => return None,
        })
    }
}

/// As in `2026-11-29 05:43 UTC`.
pub(crate) fn date(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    timestamp.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

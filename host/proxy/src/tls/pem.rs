//! Files of certificates and keys, in PEM.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is longer is no file of certificates. (That of all public authorities is 0.2 MiB.)
const LONGEST: u64 = 4 << 20;

/// The beginning of a key that needs a passphrase.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

/// The sections of a file.
pub(super) struct PemFile {
    name: String,
    sections: Vec<(SectionKind, Vec<u8>)>,
    /// Whether it has a key that needs a passphrase.
    is_encrypted: bool,
}

impl PemFile {
    /// Reads the file `name` in `directory`.
    ///
    /// # Errors
    /// It can't be read, or is no PEM. The message names it.
    pub(super) fn read(directory: &Path, name: &Path) -> Result<Self, String> {
        let path = directory.join(name);
        let name = name.display().to_string();
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("`{name}` can't be read: {}", words(&error)))?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("`{name}` is longer than {} MiB", LONGEST >> 20));
        }
        if bytes.trim_ascii().is_empty() {
            return Err(format!("`{name}` is empty"));
        }
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("`{name}` is not valid PEM: {}", plain(&error)))?;
        let is_encrypted = ENCRYPTED.iter().any(|mark| contains(&bytes, mark));
        if sections.is_empty() && !is_encrypted {
            return Err(format!(
                "`{name}` is not PEM: expected a section such as `-----BEGIN CERTIFICATE-----`"
            ));
        }
        Ok(Self { name, sections, is_encrypted })
    }

    /// All its certificates, in their order.
    ///
    /// # Errors
    /// It has none. The message says what it has.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let of_kind = |(kind, der): &(SectionKind, Vec<u8>)| {
            (*kind == SectionKind::Certificate).then(|| der.clone().into())
        };
        let certificates: Vec<_> = self.sections.iter().filter_map(of_kind).collect();
        if certificates.is_empty() {
            let found = self.found();
            return Err(format!("`{}` has no certificate: it has {found}", self.name));
        }
        Ok(certificates)
    }

    /// Its private key.
    ///
    /// # Errors
    /// It has none that can be used. The message says what it has.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let key = self
            .sections
            .iter()
            .find_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()));
        key.ok_or_else(|| match self.is_encrypted {
            true => format!(
                "the key in `{}` is encrypted: expected one that needs no passphrase",
                self.name
            ),
            false => format!("`{}` has no private key: it has {}", self.name, self.found()),
        })
    }

    fn found(&self) -> &'static str {
        match self.sections.first().map(|(kind, _)| kind) {
            Some(SectionKind::Certificate) => "a certificate",
            Some(SectionKind::PublicKey) => "a public key",
            Some(SectionKind::Csr) => "a request for a certificate",
            Some(SectionKind::Crl) => "a list of revoked certificates",
            Some(
                SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey,
            )
            | None => "a private key",
            Some(_) => "something else",
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Without the number that the system gives it.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn plain(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            let of = String::from_utf8_lossy(end_marker);
            format!("`-----END {}-----` is missing", of.trim_end())
        }
        PemError::IllegalSectionStart { line } => {
            format!("a section begins with `{}`", String::from_utf8_lossy(line).trim_end())
        }
        other => other.to_string(),
    }
}

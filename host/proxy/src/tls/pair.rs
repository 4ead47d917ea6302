//! A certificate with its key, as two files have them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;

use super::pem::PemFile;
use crate::certificate::CertificateFacts;
use crate::config::CertificateFiles;
use crate::observe::wall_clock;

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct CertificatePair {
    files: CertificateFiles,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: CertificateFacts,
}

/// A certificate in use, to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateStatus {
    /// Its file, as the configuration names it.
    pub file: String,
    /// Its subject, as in `CN=b`.
    pub subject: String,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// Until when it is valid.
    pub until: SystemTime,
}

impl CertificatePair {
    /// Reads both files; relative names are relative to `directory`.
    ///
    /// # Errors
    /// They can't be used: the key in the table of the file that is wrong, and why.
    pub(super) fn load(
        files: &CertificateFiles,
        directory: &Path,
    ) -> Result<Self, (&'static str, String)> {
        let of_cert = |message| ("cert", message);
        let of_key = |message| ("key", message);
        let (cert, key) = (files.cert.display(), files.key.display());
        let chain = PemFile::read(directory, &files.cert).map_err(of_cert)?;
        let chain = chain.certificates().map_err(of_cert)?;
        let facts = CertificateFacts::of(&chain[0])
            .map_err(|error| of_cert(format!("the first section of `{cert}` {error}")))?;
        let private = PemFile::read(directory, &files.key).map_err(of_key)?;
        let private = private.key().map_err(of_key)?;
        let private = ring::sign::any_supported_type(&private)
            .map_err(|error| of_key(format!("the key in `{key}` can't be used: {error}")))?;
        let certified = CertifiedKey::new(chain, private);
        certified
            .keys_match()
            .map_err(|_| of_key(format!("`{key}` is not the key of `{cert}`")))?;
        Ok(Self { files: files.clone(), key: Arc::new(certified), facts })
    }

    /// Reads both files again. `None`: they have what is in use.
    ///
    /// # Errors
    /// What they have can't be used.
    pub(super) fn reload(&self, directory: &Path) -> Result<Option<Self>, String> {
        let new = Self::load(&self.files, directory).map_err(|(_, message)| message)?;
        if new.key.cert == self.key.cert {
            return Ok(None);
        }
        let now = wall_clock::now();
        match new.facts.remark(now).filter(|_| new.facts.is_over(now)) {
            Some(remark) => Err(format!("`{}` {remark}", self.name())),
            None => Ok(Some(new)),
        }
    }

    /// What somebody should know about its time.
    pub(super) fn remark(&self) -> Option<String> {
        let remark = self.facts.remark(wall_clock::now())?;
        Some(format!("`{}` {remark}", self.name()))
    }

    /// The file of the certificate, as the configuration names it.
    pub(super) fn name(&self) -> String {
        self.files.cert.display().to_string()
    }

    /// Both files.
    pub(super) fn paths(&self, directory: &Path) -> Vec<PathBuf> {
        vec![directory.join(&self.files.cert), directory.join(&self.files.key)]
    }

    pub(super) fn status(&self) -> CertificateStatus {
        CertificateStatus {
            file: self.name(),
            subject: self.facts.subject.clone(),
            hosts: self.facts.hosts().collect(),
            until: self.facts.until,
        }
    }
}

//! TLS towards clients: certificates by name, and what is asked of clients. The files can be read
//! again at any time; handshakes from then on use what is new.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use fusebox_resilience::config::Problem;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::pem::PemFile;
use super::provider::{provider, versions};
use crate::certificate::CertificateFacts;
use crate::config::{CertificateFiles, ClientAuth, ListenerTlsConfig, TlsVersion};
use crate::observe::wall_clock;

/// What a connection may speak above TLS, the preferred one first (RFC 7301). Whatever is added
/// here is offered to clients; `serve_secured` in `server/accepted.rs` knows what was chosen.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];

/// HTTP/2's name there.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// TLS towards clients.
#[derive(Debug)]
pub struct ListenerTls {
    directory: PathBuf,
    versions: TlsVersion,
    /// Whether upstreams are told clients' certificates.
    pub(crate) forwards_certificates: bool,
    clients: Option<ClientAuthority>,
    loaded: Mutex<Loaded>,
    /// What handshakes use: made of what is loaded.
    current: RwLock<Arc<ServerConfig>>,
    pub(crate) max_handshakes: usize,
    places: Semaphore,
}

/// What is read from files.
#[derive(Debug)]
struct Loaded {
    pairs: Vec<CertificatePair>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The certificates of `client_ca`.
    authorities: Vec<CertificateDer<'static>>,
    /// Who resumes a session is not verified again: tickets end with the authorities.
    tickets: Arc<dyn ProducesTickets>,
}

/// Who signs clients' certificates.
#[derive(Debug)]
struct ClientAuthority {
    file: PathBuf,
    auth: ClientAuth,
}

/// A certificate with its key.
#[derive(Debug)]
struct CertificatePair {
    files: CertificateFiles,
    key: Arc<CertifiedKey>,
    facts: CertificateFacts,
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

/// Which of the files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPart {
    /// The certificate of this place, and its key.
    Pair(usize),
    ClientAuthority,
}

impl ListenerTls {
    /// Reads all files; relative names are relative to `directory`.
    ///
    /// # Errors
    /// All problems, by their place in the table.
    pub(crate) fn load(config: &ListenerTlsConfig, directory: &Path) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut pairs = Vec::new();
        for (at, files) in config.certificates.iter().enumerate() {
            match CertificatePair::load(files, directory) {
                Ok(pair) => pairs.push(pair),
                Err((key, message)) => {
                    let path = format!("certificates[{at}].{key}");
                    problems.push(Problem { path, message });
                }
            }
        }
        let clients = config.client_ca.as_ref().map(|file| ClientAuthority {
            file: file.clone(),
            auth: config.client_auth.unwrap_or(ClientAuth::Required),
        });
        let read = clients.as_ref().map(|clients| clients.read(directory)).transpose();
        let authorities = read.unwrap_or_else(|message| {
            problems.push(Problem { path: "client_ca".to_owned(), message });
            None
        });
        let (authorities, verifier) = authorities.unzip();
        if !problems.is_empty() {
            return Err(problems);
        }
        let authorities = authorities.unwrap_or_default();
        let whole = |message| vec![Problem { path: "certificates".to_owned(), message }];
        let tickets = new_tickets().map_err(whole)?;
        let loaded = Loaded { pairs, verifier, authorities, tickets };
        let current = loaded.config(config.min_version).map_err(whole)?;
        Ok(Self {
            directory: directory.to_owned(),
            versions: config.min_version,
            forwards_certificates: config.forward_client_cert,
            clients,
            loaded: Mutex::new(loaded),
            current: RwLock::new(current),
            max_handshakes: config.max_handshakes,
            places: Semaphore::new(config.max_handshakes),
        })
    }

    /// What is valid and probably not intended.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        let now = wall_clock::now();
        let loaded = self.loaded();
        let remarks = loaded.pairs.iter().enumerate().filter_map(|(at, pair)| {
            let remark = pair.facts.remark(now)?;
            let message = format!("`{}` {remark}", pair.files.cert.display());
            Some(Problem { path: format!("certificates[{at}].cert"), message })
        });
        remarks.collect()
    }

    /// What a handshake that begins now uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A place among the handshakes, if one is free.
    pub(crate) fn try_place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// Waits for one.
    pub(crate) async fn place(&self) -> SemaphorePermit<'_> {
        self.places.acquire().await.expect("it is never closed")
    }

    /// The certificates in use, in the order of the file.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.loaded().pairs.iter().map(CertificatePair::status).collect()
    }

    /// The files that events name: of certificates, and of `client_ca`.
    pub fn file_names(&self) -> Vec<String> {
        let certificates = self.certificates().into_iter().map(|certificate| certificate.file);
        let clients = self.clients.iter().map(|clients| clients.file.display().to_string());
        certificates.chain(clients).collect()
    }

    /// The files of each part.
    pub(super) fn files(&self) -> Vec<(TlsPart, Vec<PathBuf>)> {
        let loaded = self.loaded();
        let pairs = loaded.pairs.iter().enumerate().map(|(at, pair)| {
            let CertificateFiles { cert, key } = &pair.files;
            (TlsPart::Pair(at), vec![self.directory.join(cert), self.directory.join(key)])
        });
        let clients = self.clients.iter();
        let clients =
            clients.map(|it| (TlsPart::ClientAuthority, vec![self.directory.join(&it.file)]));
        pairs.chain(clients).collect()
    }

    /// Reads the files of a part again, and uses what they have from now on. `None`: that is in use
    /// already.
    ///
    /// # Errors
    /// It can't be used, and what was in use stays: the file, and why.
    pub(super) fn reload(&self, part: TlsPart) -> Result<Option<Replaced>, Rejected> {
        match part {
            TlsPart::Pair(at) => self.reload_pair(at),
            TlsPart::ClientAuthority => self.reload_authorities(),
        }
    }

    fn reload_pair(&self, at: usize) -> Result<Option<Replaced>, Rejected> {
        let files = self.loaded().pairs[at].files.clone();
        let file = files.cert.display().to_string();
        let rejected = |reason| Rejected { file: file.clone(), reason };
        let pair = CertificatePair::load(&files, &self.directory)
            .map_err(|(_, reason)| rejected(reason))?;
        let mut loaded = self.loaded();
        if loaded.pairs[at].key.cert == pair.key.cert {
            return Ok(None);
        }
        if pair.facts.is_over(wall_clock::now()) {
            let remark = pair.facts.remark(wall_clock::now()).unwrap_or_default();
            return Err(rejected(format!("`{file}` {remark}")));
        }
        let until = Some(pair.facts.until);
        loaded.pairs[at] = pair;
        self.renew(&loaded).map_err(rejected)?;
        Ok(Some(Replaced { file: file.clone(), until }))
    }

    fn reload_authorities(&self) -> Result<Option<Replaced>, Rejected> {
        let Some(clients) = &self.clients else { return Ok(None) };
        let file = clients.file.display().to_string();
        let rejected = |reason| Rejected { file: file.clone(), reason };
        let (authorities, verifier) = clients.read(&self.directory).map_err(rejected)?;
        let mut loaded = self.loaded();
        if loaded.authorities == authorities {
            return Ok(None);
        }
        loaded.tickets = new_tickets().map_err(rejected)?;
        (loaded.authorities, loaded.verifier) = (authorities, Some(verifier));
        self.renew(&loaded).map_err(rejected)?;
        Ok(Some(Replaced { file: file.clone(), until: None }))
    }

    fn renew(&self, loaded: &Loaded) -> Result<(), String> {
        let config = loaded.config(self.versions)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file whose new content is in use.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) file: String,
    /// Until when it is valid, if it is a certificate of our own.
    pub(super) until: Option<SystemTime>,
}

/// A file whose new content is not used.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) file: String,
    pub(super) reason: String,
}

fn new_tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    ring::Ticketer::new().map_err(|error| error.to_string())
}

impl Loaded {
    fn config(&self, least: TlsVersion) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(least))
            .map_err(|error| error.to_string())?;
        let builder = match &self.verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&self.pairs)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // All that a session needs is in the client's ticket: it holds no memory here.
        config.ticketer = self.tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

impl ClientAuthority {
    fn read(
        &self,
        directory: &Path,
    ) -> Result<(Vec<CertificateDer<'static>>, Arc<dyn ClientCertVerifier>), String> {
        let certificates = PemFile::read(directory, &self.file)?.certificates()?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("`{}`: {error}", self.file.display()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        let builder = match self.auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| error.to_string())?;
        Ok((certificates, verifier))
    }
}

impl CertificatePair {
    /// The error says which of the two files it is about, by its key in the table.
    fn load(files: &CertificateFiles, directory: &Path) -> Result<Self, (&'static str, String)> {
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

    fn status(&self) -> CertificateStatus {
        CertificateStatus {
            file: self.files.cert.display().to_string(),
            subject: self.facts.subject.clone(),
            hosts: self.facts.hosts().collect(),
            until: self.facts.until,
        }
    }
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    /// For other names, and for none.
    first: Option<Arc<CertifiedKey>>,
    /// For one name there may be several, with keys of several kinds.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    fn new(pairs: &[CertificatePair]) -> Self {
        let mut by_name = HashMap::<_, Vec<_>>::new();
        for pair in pairs {
            for host in pair.facts.hosts() {
                by_name.entry(host).or_default().push(pair.key.clone());
            }
        }
        Self { first: pairs.first().map(|pair| pair.key.clone()), by_name }
    }

    /// Those for a name: a whole one, or else one whose first label is `*`.
    fn of(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        };
        self.by_name.get(name).or_else(wildcard).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let Some(keys) = name.as_deref().and_then(|name| self.of(name)) else {
            return self.first.clone();
        };
        let schemes = hello.signature_schemes();
        let usable = keys.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        usable.or(keys.first()).cloned()
    }
}

//! TLS towards clients: certificates by name, and what is asked of clients. The files can be read
//! again at any time; handshakes from then on use what is new.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fusebox_resilience::config::Problem;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::pair::{CertificatePair, CertificateStatus};
use super::pem::PemFile;
use super::places::HandshakePlaces;
use super::provider::{self, provider, versions};
use super::watch::{Rejected, Reloads, Replaced};
use crate::config::{ClientAuth, ListenerTlsConfig, TlsVersion};

/// What a connection may speak above TLS, the preferred one first (RFC 7301). Whatever is added
/// here is offered to clients; `serve_secured` in `server/accepted.rs` knows what was chosen.
const PROTOCOLS: [&[u8]; 3] = [HTTP_2, b"http/1.1", b"http/1.0"];

/// HTTP/2's name there.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// TLS towards clients.
#[derive(Debug)]
pub struct ListenerTls {
    directory: PathBuf,
    versions: TlsVersion,
    /// Whether upstreams are told clients' certificates.
    pub(crate) forwards_certificates: bool,
    /// Whether a request has to be for the name that its connection was made for.
    pub(crate) is_strict: bool,
    clients: Option<ClientAuthority>,
    loaded: Mutex<Loaded>,
    /// What handshakes use: made of what is loaded.
    current: RwLock<Arc<ServerConfig>>,
    pub(crate) places: HandshakePlaces,
}

/// What is read from files.
#[derive(Debug)]
struct Loaded {
    pairs: Vec<CertificatePair>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The certificates of `client_ca`.
    authorities: Vec<CertificateDer<'static>>,
    /// Who resumes a session is not verified again: tickets end with the authorities. None if
    /// sessions are not resumed.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// Who signs clients' certificates.
#[derive(Debug)]
struct ClientAuthority {
    file: PathBuf,
    auth: ClientAuth,
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
        let tickets = config.session_tickets.then(new_tickets).transpose().map_err(whole)?;
        let loaded = Loaded { pairs, verifier, authorities, tickets };
        let current = loaded.config(config.min_version).map_err(whole)?;
        Ok(Self {
            directory: directory.to_owned(),
            versions: config.min_version,
            forwards_certificates: config.forward_client_cert,
            is_strict: config.strict_sni,
            clients,
            loaded: Mutex::new(loaded),
            current: RwLock::new(current),
            places: HandshakePlaces::new(config.max_handshakes),
        })
    }

    /// What is valid and probably not intended.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        let loaded = self.loaded();
        let remarks = loaded.pairs.iter().enumerate().filter_map(|(at, pair)| {
            Some(Problem { path: format!("certificates[{at}].cert"), message: pair.remark()? })
        });
        remarks.collect()
    }

    /// What a handshake that begins now uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
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

    fn reload_pair(&self, at: usize) -> Result<Option<Replaced>, Rejected> {
        let mut loaded = self.loaded();
        let file = loaded.pairs[at].name();
        let rejected = |reason| Rejected { file: file.clone(), reason };
        let new = loaded.pairs[at].reload(&self.directory).map_err(rejected)?;
        let Some(new) = new else { return Ok(None) };
        let until = Some(new.facts.until);
        loaded.pairs[at] = new;
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
        if let Some(tickets) = &mut loaded.tickets {
            *tickets = new_tickets().map_err(rejected)?;
        }
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

impl Reloads for ListenerTls {
    /// Each certificate with its key, and those who sign clients' behind them.
    fn parts(&self) -> Vec<Vec<PathBuf>> {
        let loaded = self.loaded();
        let pairs = loaded.pairs.iter().map(|pair| pair.paths(&self.directory));
        let clients = self.clients.iter();
        pairs.chain(clients.map(|clients| vec![self.directory.join(&clients.file)])).collect()
    }

    fn reload(&self, part: usize) -> Result<Option<Replaced>, Rejected> {
        let count = self.loaded().pairs.len();
        if part < count { self.reload_pair(part) } else { self.reload_authorities() }
    }
}

fn new_tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    provider::tickets().map_err(|error| error.to_string())
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
        // All suites are strong; auditors ask for an order of the server's all the same.
        config.ignore_client_order = true;
        // All that a session needs is in the client's ticket: it holds no memory here.
        match &self.tickets {
            Some(tickets) => config.ticketer = tickets.clone(),
            None => config.send_tls13_tickets = 0,
        }
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

//! TLS to an upstream: who is trusted there, and what fusebox shows of its own. The files can be
//! read again at any time; connections that are made from then on use what is new.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use fusebox_resilience::config::Problem;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::listener::HTTP_2;
use super::pair::{CertificatePair, CertificateStatus};
use super::pem::PemFile;
use super::provider::{provider, versions};
use super::watch::{Rejected, Reloads, Replaced};
use crate::config::{TlsVersion, UpstreamProtocol, UpstreamTlsConfig};

/// HTTP/1.1 above TLS, by its name in ALPN (RFC 7301).
const HTTP1: &[u8] = b"http/1.1";

/// TLS to an upstream.
#[derive(Debug)]
pub struct UpstreamTls {
    directory: PathBuf,
    versions: TlsVersion,
    protocol: UpstreamProtocol,
    /// In place of the name in the URL.
    name: Option<ServerName<'static>>,
    is_verified: bool,
    /// `None`: those of the system.
    ca: Option<PathBuf>,
    loaded: Mutex<LoadedUpstream>,
    /// What handshakes use: made of what is loaded.
    current: RwLock<Handshakes>,
}

/// What is offered above TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// All that may be spoken with the upstream.
    All,
    /// HTTP/1.1 only.
    Http1,
}

/// What handshakes use, by what they offer.
#[derive(Clone, Debug)]
struct Handshakes {
    all: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// What is read from files.
#[derive(Debug)]
struct LoadedUpstream {
    /// `None`: those of the system.
    authorities: Option<Vec<CertificateDer<'static>>>,
    own: Option<CertificatePair>,
}

impl UpstreamTls {
    /// Reads all files; relative names are relative to `directory`. Above it this is spoken.
    ///
    /// # Errors
    /// All problems, by their key.
    pub(crate) fn load(
        config: &UpstreamTlsConfig,
        protocol: UpstreamProtocol,
        directory: &Path,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem = |path: &str, message| {
            problems.push(Problem { path: path.to_owned(), message });
        };
        let own = config.certificate().map(|files| CertificatePair::load(&files, directory));
        let own = own.transpose().unwrap_or_else(|(key, message)| {
            problem(key, message);
            None
        });
        let read = config.ca.as_ref().map(|file| PemFile::read(directory, file)?.certificates());
        let authorities = read.transpose().unwrap_or_else(|message| {
            problem("ca", message);
            None
        });
        let loaded = LoadedUpstream { authorities, own };
        let current = loaded.handshakes(config.min_version, config.verify, protocol);
        match current {
            Ok(current) if problems.is_empty() => Ok(Self {
                directory: directory.to_owned(),
                versions: config.min_version,
                protocol,
                name: config.server_name.clone().and_then(|name| ServerName::try_from(name).ok()),
                is_verified: config.verify,
                ca: config.ca.clone(),
                loaded: Mutex::new(loaded),
                current: RwLock::new(current),
            }),
            Ok(_) => Err(problems),
            Err(message) => {
                let path = "ca".to_owned();
                if problems.is_empty() {
                    problems.push(Problem { path, message });
                }
                Err(problems)
            }
        }
    }

    /// What is valid and probably not intended, by its key.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        let remark = self.loaded().own.as_ref().and_then(CertificatePair::remark);
        let remark = remark.map(|message| Problem { path: "cert".to_owned(), message });
        let unverified = (!self.is_verified).then(|| Problem {
            path: "verify".to_owned(),
            message: "is false: whoever is on the way can feign the upstream, read all and change \
                      all"
            .to_owned(),
        });
        unverified.into_iter().chain(remark).collect()
    }

    /// What a handshake that begins now uses.
    pub(crate) fn current(&self, offer: Offer) -> Arc<ClientConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        match offer {
            Offer::All => current.all.clone(),
            Offer::Http1 => current.http1.clone(),
        }
    }

    /// The name that an endpoint's certificate has to be for, whose URL has this host.
    pub(crate) fn name(&self, host: &str) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| ServerName::try_from(host.to_owned()).ok())
    }

    /// Whether that can go on with which a handshake ended: what was agreed on above TLS, if
    /// anything was. HTTP/1.1 needs no agreement.
    pub(crate) fn takes(&self, agreed: Option<&[u8]>) -> bool {
        self.protocol != UpstreamProtocol::Http2 || agreed == Some(HTTP_2)
    }

    /// The files that events name: of the certificate that it shows, and of `ca`.
    pub fn file_names(&self) -> Vec<String> {
        let own = self.certificate().map(|certificate| certificate.file);
        own.into_iter().chain(self.ca.iter().map(|file| file.display().to_string())).collect()
    }

    /// The certificate that it shows.
    pub fn certificate(&self) -> Option<CertificateStatus> {
        self.loaded().own.as_ref().map(CertificatePair::status)
    }

    fn renew(&self, loaded: &LoadedUpstream) -> Result<(), String> {
        let handshakes = loaded.handshakes(self.versions, self.is_verified, self.protocol)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = handshakes;
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, LoadedUpstream> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_own(&self) -> Result<Option<Replaced>, Rejected> {
        let mut loaded = self.loaded();
        let Some(own) = &loaded.own else { return Ok(None) };
        let file = own.name();
        let rejected = |reason| Rejected { file: file.clone(), reason };
        let Some(new) = own.reload(&self.directory).map_err(rejected)? else { return Ok(None) };
        let until = Some(new.facts.until);
        loaded.own = Some(new);
        self.renew(&loaded).map_err(rejected)?;
        Ok(Some(Replaced { file: file.clone(), until }))
    }

    fn reload_authorities(&self) -> Result<Option<Replaced>, Rejected> {
        let Some(file) = &self.ca else { return Ok(None) };
        let name = file.display().to_string();
        let rejected = |reason| Rejected { file: name.clone(), reason };
        let read = PemFile::read(&self.directory, file).and_then(|file| file.certificates());
        let authorities = Some(read.map_err(rejected)?);
        let mut loaded = self.loaded();
        if loaded.authorities == authorities {
            return Ok(None);
        }
        let before = std::mem::replace(&mut loaded.authorities, authorities);
        if let Err(reason) = self.renew(&loaded) {
            loaded.authorities = before;
            return Err(rejected(reason));
        }
        Ok(Some(Replaced { file: name.clone(), until: None }))
    }
}

impl Reloads for UpstreamTls {
    fn parts(&self) -> Vec<Vec<PathBuf>> {
        let own = self.loaded().own.as_ref().map(|own| own.paths(&self.directory));
        let ca = self.ca.as_ref().map(|file| vec![self.directory.join(file)]);
        vec![own.unwrap_or_default(), ca.unwrap_or_default()]
    }

    fn reload(&self, part: usize) -> Result<Option<Replaced>, Rejected> {
        if part == 0 { self.reload_own() } else { self.reload_authorities() }
    }
}

impl LoadedUpstream {
    fn handshakes(
        &self,
        least: TlsVersion,
        is_verified: bool,
        protocol: UpstreamProtocol,
    ) -> Result<Handshakes, String> {
        let config = self.config(least, is_verified)?;
        // They share their sessions.
        let offering = |names: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let http1 = offering(&[HTTP1]);
        Ok(match protocol {
            UpstreamProtocol::Auto => Handshakes { all: offering(&[HTTP_2, HTTP1]), http1 },
            UpstreamProtocol::Http1 => Handshakes { all: http1.clone(), http1 },
            UpstreamProtocol::Http2 => Handshakes { all: offering(&[HTTP_2]), http1 },
        })
    }

    fn config(&self, least: TlsVersion, is_verified: bool) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(least))
            .map_err(|error| error.to_string())?
            .dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match is_verified {
            true => WebPkiServerVerifier::builder_with_provider(self.roots()?, provider())
                .build()
                .map_err(|error| error.to_string())?,
            false => Arc::new(Anybody),
        };
        let builder = builder.with_custom_certificate_verifier(verifier);
        Ok(match &self.own {
            Some(own) => {
                let own = SingleCertAndKey::from(own.key.clone());
                builder.with_client_cert_resolver(Arc::new(own))
            }
            None => builder.with_no_client_auth(),
        })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let Some(authorities) = &self.authorities else { return system_roots() };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|error| error.to_string())?;
        }
        Ok(roots.into())
    }
}

/// Those whom the system trusts, read once.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(format!(
                "missing, and the system has no certificates of authorities{why}; expected a file"
            ));
        }
        Ok(roots.into())
    });
    ROOTS.clone()
}

/// Takes everybody for the upstream. The signatures of a handshake are checked all the same.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

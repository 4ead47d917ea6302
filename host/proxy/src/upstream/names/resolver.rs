//! Asks name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::timeout;

use super::merge::FamilyAnswer;

/// How long a name server that the file names has for an answer,
const PATIENCE: Duration = Duration::from_secs(1);
/// how often it is asked again,
const AGAIN: usize = 2;
/// and how long all servers together have for a name: the system may name several.
const LIMIT: Duration = Duration::from_secs(15);

/// Who is asked. Nothing is kept of what is answered.
pub(super) struct Resolver(Result<TokioResolver, String>);

impl Resolver {
    /// Asks this name server, or those that the system asks, after its file of hosts.
    pub(super) fn new(server: Option<SocketAddr>) -> Self {
        let resolver = match server {
            Some(server) => of_server(server),
            None => of_system(),
        };
        Self(resolver.map_err(|error| error.to_string()))
    }

    /// The records of a service, and how long they are good for.
    ///
    /// # Errors
    /// There are none, or no answer, in these words.
    pub(super) async fn offers(&self, name: &str) -> Result<(Vec<ServiceOffer>, Duration), String> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let lookup = match timeout(LIMIT, resolver.lookup(name, RecordType::SRV)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => return Err(words(&error, "nobody offers the service")),
            Err(_) => return Err(NetError::Timeout.to_string()),
        };
        let offers = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(ServiceOffer {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_ascii(),
                port: srv.port,
            }),
            _ => None,
        });
        let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        Ok((offers.collect(), Duration::from_secs(seconds.into())))
    }

    /// The addresses of a name, IPv4 and IPv6.
    pub(super) async fn look_up(&self, name: &str) -> [FamilyAnswer; 2] {
        let resolver = match &self.0 {
            Ok(resolver) => resolver,
            Err(why) => return [(); 2].map(|()| FamilyAnswer::Failed(why.clone())),
        };
        let ask = |family| ask(resolver, name, family);
        join(ask(RecordType::A), ask(RecordType::AAAA)).await.into()
    }
}

/// A record of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServiceOffer {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

fn of_system() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().cache_size = 0;
    builder.build()
}

fn of_server(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.attempts = AGAIN;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build()
}

async fn ask(resolver: &TokioResolver, name: &str, family: RecordType) -> FamilyAnswer {
    let lookup = match timeout(LIMIT, resolver.lookup(name, family)).await {
        Ok(Ok(lookup)) => lookup,
        Ok(Err(error)) => return refused(&error),
        Err(_) => return FamilyAnswer::Failed(NetError::Timeout.to_string()),
    };
    let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
    let addresses: Vec<_> = addresses.filter(is_somewhere).collect();
    if addresses.is_empty() {
        return FamilyAnswer::None("its addresses lead nowhere".to_owned());
    }
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    FamilyAnswer::Some { addresses, good_for: Duration::from_secs(seconds.into()) }
}

/// Whether there can be an endpoint. To some systems "nowhere" is this machine.
fn is_somewhere(ip: &IpAddr) -> bool {
    let ip = ip.to_canonical();
    !ip.is_unspecified() && !ip.is_multicast()
}

fn refused(error: &NetError) -> FamilyAnswer {
    let words = words(error, "the name has no addresses");
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => FamilyAnswer::None(words),
        _ => FamilyAnswer::Failed(words),
    }
}

/// Why there is nothing; `none`: the name is there, but has no records of this type.
fn words(error: &NetError, none: &str) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NXDomain => "there is no such name".to_owned(),
            _ => none.to_owned(),
        },
        error => error.to_string(),
    }
}

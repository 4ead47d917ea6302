//! Which requests a route takes.

use std::fmt;
use std::rc::Rc;

use fusebox_resilience::ClientCertificate;
use http::Method;

/// Which requests a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// In lower case, without port and final dot. `None`: any.
    pub(super) host: Option<Box<str>>,
    /// Without a slash at its end: empty for all paths.
    pub(super) prefix: Box<str>,
    /// `None`: any.
    methods: Option<Vec<Method>>,
    /// Names of certificates. `None`: any, or none.
    clients: Option<Vec<String>>,
}

impl RouteMatch {
    /// Takes `host` (any if `None`), paths below `path`, which begins with a slash, and `methods`
    /// (any if `None`).
    pub fn new(host: Option<&str>, path: &str, methods: Option<Vec<Method>>) -> Self {
        Self {
            host: host.map(|host| {
                let host = host.strip_suffix('.').unwrap_or(host);
                host.to_ascii_lowercase().into()
            }),
            prefix: path.trim_end_matches('/').into(),
            methods,
            clients: None,
        }
    }

    /// The same for clients whose certificates have one of these subjects or names (any if `None`).
    #[must_use]
    pub fn of_clients(self, clients: Option<Vec<String>>) -> Self {
        Self { clients, ..self }
    }

    /// What it claims. Two routes with a claim in common take the same requests, and neither is
    /// more specific.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let methods = self.methods.as_deref();
        // A route with methods is more specific, so "any method" is a claim of its own.
        let any = methods.is_none().then_some(None);
        let methods = methods.unwrap_or_default().iter().map(Some).chain(any);
        let any = self.clients.is_none().then_some(None);
        let clients = self.clients.iter().flatten().map(|name| Some(name.as_str())).chain(any);
        let clients: Vec<_> = clients.collect();
        methods.flat_map(move |method| {
            let (host, prefix) = (self.host.as_deref(), &*self.prefix);
            clients.clone().into_iter().map(move |client| Claim { host, prefix, method, client })
        })
    }

    pub(super) fn takes(&self, host: &str, path: &str) -> bool {
        self.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && path
                .strip_prefix(&*self.prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it takes requests of a client that has shown this certificate.
    pub(super) fn takes_client(&self, certificate: Option<&Rc<ClientCertificate>>) -> bool {
        self.clients.as_ref().is_none_or(|wanted| {
            certificate.is_some_and(|it| {
                wanted.iter().any(|name| *name == it.subject || it.names.contains(name))
            })
        })
    }

    pub(super) fn takes_method(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    /// The order in which routes are tried: the most specific first.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let length = usize::MAX - self.prefix.len();
        (self.host.is_none(), length, self.clients.is_none(), self.methods.is_none())
    }

    /// The path that it takes, as the configuration has it.
    pub fn path(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }
}

/// A host or any, a prefix, a method or any, and a name of a certificate or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim<'a> {
    host: Option<&'a str>,
    prefix: &'a str,
    method: Option<&'a Method>,
    client: Option<&'a str>,
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            for (index, method) in methods.iter().enumerate() {
                write!(f, "{}{method}", if index > 0 { "," } else { "" })?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path())?;
        match &self.clients {
            Some(clients) => write!(f, " ({})", clients.join(", ")),
            None => Ok(()),
        }
    }
}

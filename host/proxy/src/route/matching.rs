//! Which requests a route takes.

use std::fmt;

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
        }
    }

    /// What it claims. Two routes with a claim in common take the same requests, and neither is
    /// more specific.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let methods = self.methods.as_deref();
        // A route with methods is more specific, so "any method" is a claim of its own.
        let any = methods.is_none().then_some(None);
        methods.unwrap_or_default().iter().map(Some).chain(any).map(|method| Claim {
            host: self.host.as_deref(),
            prefix: &self.prefix,
            method,
        })
    }

    pub(super) fn takes(&self, host: &str, path: &str, method: &Method) -> bool {
        self.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && path
                .strip_prefix(&*self.prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && self.takes_method(method)
    }

    pub(super) fn takes_method(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    /// The order in which routes are tried: the most specific first.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (self.host.is_none(), usize::MAX - self.prefix.len(), self.methods.is_none())
    }

    /// The path that it takes, as the configuration has it.
    pub fn path(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }
}

/// A host or any, a prefix, and a method or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim<'a> {
    host: Option<&'a str>,
    prefix: &'a str,
    method: Option<&'a Method>,
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            for (index, method) in methods.iter().enumerate() {
                write!(f, "{}{method}", if index > 0 { "," } else { "" })?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path())
    }
}

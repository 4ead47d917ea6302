//! The addresses of an endpoint's name, for all workers.
//!
//! A name is looked up by the system's resolver, on a thread where that may block, and its
//! addresses are kept for a while. When looking it up fails they are used still: better an old
//! address than none.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::{Error, ErrorKind};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use crate::config::EndpointUrl;
use crate::sockets;

/// For so long the addresses of a name are kept.
const KEPT: Duration = Duration::from_secs(30);

/// While known addresses are too old, one attempt looks the name up, for so long at most, and the
/// others use them.
const PATIENCE: Duration = Duration::from_secs(1);

/// In order; one at least.
type AddressList = Arc<[SocketAddr]>;

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct KnownAddresses(Mutex<Option<LookedUp>>);

#[derive(Debug)]
struct LookedUp {
    addresses: AddressList,
    /// When they were looked up.
    at: Instant,
    /// From then on they are looked up again.
    until: Instant,
    /// The last lookup has failed.
    is_failing: bool,
}

/// The addresses to try.
pub(super) struct FoundAddresses {
    /// In order; one at least.
    pub(super) list: AddressList,
    /// Looking the name up began to fail, or works again.
    pub(super) change: Option<LookupChange>,
}

/// What is to be told of looking a name up.
#[derive(Debug, PartialEq)]
pub(super) enum LookupChange {
    /// It fails, in these words; the last addresses are used.
    Fails(String),
    /// It works again.
    Works,
}

impl KnownAddresses {
    /// # Errors
    /// Nothing is known, and the name can't be looked up.
    pub(super) async fn get(&self, url: &EndpointUrl) -> Result<FoundAddresses, Error> {
        let find = || lookup(&url.host, url.port);
        match url.address {
            Some(address) => Ok(FoundAddresses { list: [address].into(), change: None }),
            None => self.get_by(find).await,
        }
    }

    async fn get_by<F>(&self, find: impl Fn() -> F) -> Result<FoundAddresses, Error>
    where
        F: Future<Output = Result<Vec<SocketAddr>, Error>>,
    {
        let Some(old) = self.old_or_fresh() else {
            let list: AddressList = find().await?.into();
            self.keep(list.clone());
            return Ok(FoundAddresses { list, change: None });
        };
        let list = match old {
            Ok(fresh) => return Ok(FoundAddresses { list: fresh, change: None }),
            Err(old) => old,
        };
        let error = match timeout(PATIENCE, find()).await {
            Ok(Ok(found)) => {
                let list: AddressList = found.into();
                let change = self.keep(list.clone()).then_some(LookupChange::Works);
                return Ok(FoundAddresses { list, change });
            }
            Ok(Err(error)) => with_cause(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        let was_failing = self.fail();
        let change = (!was_failing).then_some(LookupChange::Fails(error));
        Ok(FoundAddresses { list, change })
    }

    /// These lead nowhere: from now on they are too old, unless they are quite new.
    pub(super) fn doubt(&self) {
        if let Some(known) = &mut *self.lock() {
            known.until = known.until.min(known.at + PATIENCE);
        }
    }

    /// What is known, if anything is: fresh, or too old, and the caller looks for others, while
    /// everybody else still uses it.
    fn old_or_fresh(&self) -> Option<Result<AddressList, AddressList>> {
        let now = Instant::now();
        let mut known = self.lock();
        let known = known.as_mut()?;
        if now < known.until {
            return Some(Ok(known.addresses.clone()));
        }
        known.until = now + PATIENCE;
        Some(Err(known.addresses.clone()))
    }

    /// Returns whether looking it up had failed.
    fn keep(&self, addresses: AddressList) -> bool {
        let at = Instant::now();
        let new = LookedUp { addresses, at, until: at + KEPT, is_failing: false };
        self.lock().replace(new).is_some_and(|old| old.is_failing)
    }

    /// Returns whether it had failed before.
    fn fail(&self) -> bool {
        let mut known = self.lock();
        known.as_mut().is_some_and(|known| std::mem::replace(&mut known.is_failing, true))
    }

    fn lock(&self) -> MutexGuard<'_, Option<LookedUp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let dns_error = |source| match sockets::is_of_our_own(&source) || sockets::is_out_of_files() {
        true => exhausted(source),
        false => Error::new(ErrorKind::DnsError).with_source(source),
    };
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(dns_error)?.collect();
    if addresses.is_empty() { Err(ErrorKind::DnsError.into()) } else { Ok(addresses) }
}

/// Other calls may end, and give back what they use, in the next moment.
pub(super) fn exhausted(source: io::Error) -> Error {
    Error::new(ErrorKind::Exhausted)
        .with_retry_after(Some(Duration::from_secs(1)))
        .with_source(source)
}

fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::advance;

    use super::*;

    /// A resolver that plays its answers, and counts how often it is asked.
    #[derive(Default)]
    struct Resolver {
        answers: RefCell<Vec<Option<u16>>>,
        asked: Cell<usize>,
    }

    impl Resolver {
        async fn find(&self) -> Result<Vec<SocketAddr>, Error> {
            self.asked.set(self.asked.get() + 1);
            let port = self.answers.borrow_mut().remove(0).ok_or(ErrorKind::DnsError)?;
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_kept_and_outlive_a_resolver_that_fails() {
        let (known, resolver) = (KnownAddresses::default(), Resolver::default());
        resolver.answers.replace(vec![None, Some(1), Some(2), None, None, Some(3)]);
        let get = async || {
            let found = known.get_by(|| resolver.find()).await;
            found.map(|FoundAddresses { list, change }| (list[0].port(), change))
        };
        assert!(get().await.is_err(), "nothing is known yet");
        assert_eq!(get().await.unwrap(), (1, None));
        advance(KEPT - Duration::from_millis(1)).await;
        assert_eq!(get().await.unwrap(), (1, None));
        assert_eq!(resolver.asked.get(), 2);
        advance(Duration::from_millis(1)).await;
        assert_eq!(get().await.unwrap(), (2, None));
        known.doubt();
        assert_eq!(get().await.unwrap(), (2, None), "they are new");
        advance(PATIENCE).await;
        let fails = LookupChange::Fails("upstream name not resolved".into());
        assert_eq!(get().await.unwrap(), (2, Some(fails)));
        assert_eq!(get().await.unwrap(), (2, None), "a moment later nobody is asked");
        advance(PATIENCE).await;
        assert_eq!(get().await.unwrap(), (2, None), "it is told once");
        advance(PATIENCE).await;
        assert_eq!(get().await.unwrap(), (3, Some(LookupChange::Works)));
        assert_eq!(resolver.asked.get(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_does_not_answer_holds_nobody_up_who_knows_an_address() {
        let (known, resolver) = (KnownAddresses::default(), Resolver::default());
        resolver.answers.replace(vec![Some(1)]);
        known.get_by(|| resolver.find()).await.unwrap();
        advance(KEPT).await;
        let silent = std::future::pending::<Result<Vec<SocketAddr>, Error>>;
        let begun = Instant::now();
        let (first, second) = tokio::join!(known.get_by(silent), async {
            let second = known.get_by(silent).await;
            (second, begun.elapsed())
        });
        assert_eq!(first.unwrap().change, Some(LookupChange::Fails("no answer in time".into())));
        assert_eq!(begun.elapsed(), PATIENCE);
        let (second, after) = second;
        assert_eq!((second.unwrap().list[0].port(), after), (1, Duration::ZERO));
    }
}

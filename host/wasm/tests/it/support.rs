//! Components in a directory of their own, and questions to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::testing::{Recorder, call_with, exchange, read};
use fusebox_resilience::{
    Answer, Call, ComponentEvent, ComponentId, Error, ErrorKind, EventKind, Exchange, Fault,
    Observers, Outcome, Predicate, RequestBody, Responder, Response, ResponseBody, Slot,
};
use fusebox_wasm::{Compiler, ComponentConfig, ComponentMemory, Components};
use http::{HeaderMap, Request, StatusCode};
use tempfile::TempDir;
use tokio::time::Instant;

/// The name of the component that tests ask.
pub(crate) const NAME: &str = "tested";

/// One component, in a file that tests may overwrite.
pub(crate) struct Tested {
    pub(crate) components: Components,
    pub(crate) recorder: Recorder,
    directory: TempDir,
}

/// A component with every default.
pub(crate) fn load(bytes: &[u8]) -> Tested {
    load_with(bytes, |_| {})
}

/// A component with settings of its own.
#[track_caller]
pub(crate) fn load_with(bytes: &[u8], configure: impl FnOnce(&mut ComponentConfig)) -> Tested {
    try_load_with(bytes, configure).unwrap_or_else(|error| panic!("{error}"))
}

/// Why a component does not load.
#[track_caller]
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match try_load_with(bytes, |_| {}) {
        Ok(_) => panic!("it loads"),
        Err(error) => error,
    }
}

pub(crate) fn try_load_with(
    bytes: &[u8],
    configure: impl FnOnce(&mut ComponentConfig),
) -> Result<Tested, String> {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("guest.wasm"), bytes).expect("a file");
    let mut config = ComponentConfig::new("guest.wasm");
    // Generous: a busy machine must not look like a slow guest. Tests of the deadline set their
    // own.
    config.timeout = fusebox_resilience::config::ConfigDuration::from_secs(20);
    // What a guest does wrong is to be seen when a test asks it. Tests of admission try it out
    // before.
    config.probe = false;
    configure(&mut config);
    let recorder = Recorder::default();
    let configs = BTreeMap::from([(NAME.to_owned(), config)]);
    match Components::load(
        configs,
        directory.path(),
        Compiler::in_process(),
        ComponentMemory::default(),
        recorder.observers(),
    ) {
        Ok(components) => Ok(Tested { components, recorder, directory }),
        Err(failures) => {
            let [(name, error)] = &failures[..] else {
                panic!("one component, {} failures", failures.len())
            };
            assert_eq!(name, NAME);
            Err(format!("{error:#}"))
        }
    }
}

impl Tested {
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("guest.wasm")
    }

    /// Of the version in use.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.components.status()[0].version.as_ref().map(|version| version.generation)
    }

    pub(crate) fn overwrite(&self, bytes: &[u8]) {
        fs::write(self.file(), bytes).expect("a file");
    }

    pub(crate) fn predicate(&self) -> Arc<dyn Predicate> {
        self.components.predicate(NAME).expect("it exports a predicate")
    }

    pub(crate) fn responder(&self) -> Arc<dyn Responder> {
        self.components.responder(NAME).expect("it exports a fallback")
    }

    /// What it says of an outcome.
    pub(crate) fn handles(&self, outcome: impl Into<Seen>) -> bool {
        outcome
            .into()
            .asked(&self.recorder, Slot::HandleIf, |seen| self.predicate().judge(seen).is_handled())
    }

    /// What it answers instead of an outcome.
    pub(crate) fn responds(&self, outcome: impl Into<Seen>) -> Option<Response> {
        outcome.into().asked(&self.recorder, Slot::Respond, |seen| {
            match self.responder().respond(seen) {
                Answer::Now(response) => response,
                Answer::Later(_) => panic!("it is no component of the contract"),
            }
        })
    }

    /// The body of what it answers.
    #[track_caller]
    pub(crate) fn tells(&self, outcome: impl Into<Seen>) -> String {
        match self.responds(outcome) {
            Some(response) => body(response),
            None => panic!("it declined: {:?}", self.recorder.kinds()),
        }
    }

    /// The faults so far.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.faulted().into_iter().map(|(fault, _)| fault).collect()
    }

    /// The faults so far, with what is said of them.
    pub(crate) fn faulted(&self) -> Vec<(Fault, String)> {
        let fault = |kind| match kind {
            EventKind::Component(ComponentEvent::Faulted { fault, detail, .. }) => {
                Some((fault, detail.to_string()))
            }
            _ => None,
        };
        self.recorder.kinds().into_iter().filter_map(fault).collect()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> Vec<String> {
        let line = |kind| match kind {
            EventKind::Component(ComponentEvent::Printed { line, .. }) => Some(line.to_string()),
            _ => None,
        };
        self.recorder.kinds().into_iter().filter_map(line).collect()
    }

    /// The versions that were loaded.
    pub(crate) fn loaded(&self) -> Vec<ComponentId> {
        let component = |kind| match kind {
            EventKind::Component(ComponentEvent::Loaded { component, .. }) => Some(component),
            _ => None,
        };
        self.recorder.kinds().into_iter().filter_map(component).collect()
    }
}

/// What a policy has seen.
pub(crate) struct Seen {
    pub(crate) request: http::request::Builder,
    pub(crate) outcome: Outcome,
    pub(crate) remaining: Option<Duration>,
}

impl Seen {
    pub(crate) fn response(status: u16, headers: HeaderMap, body: impl Into<bytes::Bytes>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Response::new(status, headers, ResponseBody::full(body))).into()
    }

    /// Asks about it, for the policy `test` of the route `test`.
    pub(crate) fn asked<R>(
        self,
        recorder: &Recorder,
        slot: Slot,
        question: impl FnOnce(&Exchange<'_>) -> R,
    ) -> R {
        let call = self.call(recorder.observers());
        let deadline = self.remaining.map(|remaining| Instant::now() + remaining);
        question(&exchange(&call, &self.outcome, slot, deadline))
    }

    fn call(&self, observers: Observers) -> Call {
        let mut request =
            Request::builder().method(self.request.method_ref().cloned().unwrap_or_default());
        request = request.uri(self.request.uri_ref().cloned().unwrap_or_default());
        if let (Some(to), Some(from)) = (request.headers_mut(), self.request.headers_ref()) {
            *to = from.clone();
        }
        call_with("1", request, RequestBody::empty(), observers)
    }
}

impl From<Outcome> for Seen {
    fn from(outcome: Outcome) -> Self {
        Self { request: Request::get("http://service-b/"), outcome, remaining: None }
    }
}

impl From<u16> for Seen {
    fn from(status: u16) -> Self {
        Self::response(status, HeaderMap::new(), "")
    }
}

impl From<ErrorKind> for Seen {
    fn from(kind: ErrorKind) -> Self {
        Err(Error::new(kind)).into()
    }
}

/// All of a response's body.
#[track_caller]
pub(crate) fn body(response: Response) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let bytes = runtime.block_on(read(response.body)).expect("a body that is all there");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// One of the Rust guests.
#[track_caller]
pub(crate) fn built(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/build").join(name);
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make policies`", file.display()))
}

//! The switches of components: reload, push, roll back. All of them work on a thread that may
//! block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fusebox_wasm::{Components, LARGEST_FILE, Reload, RollBack};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::answer::{Answer, json, text};

/// How long a component may take to arrive.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The switches.
#[derive(Debug)]
pub(super) struct Switches {
    components: Components,
    /// One change that may take long is made at a time: a component may take 64 MiB, and its
    /// compiling minutes.
    changes: Arc<Semaphore>,
}

impl Switches {
    pub(super) fn new(components: Components) -> Self {
        Self { components, changes: Arc::new(Semaphore::new(1)) }
    }

    /// Loads again what has changed: 200, or 422 if something is no good.
    pub(super) async fn reload(&self) -> Answer {
        let Ok(place) = self.changes.clone().try_acquire_owned() else { return busy() };
        let components = self.components.clone();
        let reloads = spawn_blocking(move || {
            // Held until it is done, even if the client has gone.
            let _place = place;
            components.reload_all()
        });
        let Ok(reloads) = reloads.await else { return gone() };
        let is_rejected = reloads.values().any(|reload| matches!(reload, Reload::Rejected(_)));
        let status = if is_rejected { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let results: BTreeMap<_, _> =
            reloads.iter().map(|(name, reload)| (name, result(reload))).collect();
        json(status, &json!({ "components": results }))
    }

    /// Takes a component: 200 once it is in use and in its file, 422 if it is no good.
    pub(super) async fn push(&self, name: String, body: Incoming) -> Answer {
        if !self.components.has(&name) {
            return text(StatusCode::NOT_FOUND, format!("no component `{name}`\n"));
        }
        let too_large = || {
            let limit = LARGEST_FILE >> 20;
            text(StatusCode::PAYLOAD_TOO_LARGE, format!("a component may have up to {limit} MiB\n"))
        };
        if body.size_hint().lower() > LARGEST_FILE {
            return too_large();
        }
        let Ok(place) = self.changes.clone().try_acquire_owned() else { return busy() };
        let limit = usize::try_from(LARGEST_FILE).unwrap_or(usize::MAX);
        let bytes = match timeout(UPLOAD_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
            Ok(Err(_)) => {
                return text(StatusCode::BAD_REQUEST, "the component did not arrive whole\n");
            }
            Err(_) => {
                return text(StatusCode::REQUEST_TIMEOUT, "the component did not arrive in time\n");
            }
        };
        let components = self.components.clone();
        let reload = spawn_blocking(move || {
            let _place = place;
            components.push(&name, bytes.into())
        });
        let Ok(reload) = reload.await else { return gone() };
        let status = match reload {
            Reload::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Reload::Unchanged | Reload::Replaced(_) => StatusCode::OK,
        };
        json(status, &result(&reload))
    }

    /// Puts the previous version back: 200, or 409 if there is none.
    pub(super) async fn roll_back(&self, name: String) -> Answer {
        if !self.components.has(&name) {
            return text(StatusCode::NOT_FOUND, format!("no component `{name}`\n"));
        }
        let components = self.components.clone();
        match spawn_blocking(move || components.roll_back(&name)).await {
            Ok(Ok(RollBack { component, from, warning })) => {
                let mut done = json!({
                    "result": "rolled-back",
                    "digest": &*component.digest,
                    "generation": component.generation,
                    "from": { "digest": &*from.digest, "generation": from.generation },
                });
                if let Some(warning) = warning {
                    done["warning"] = warning.into();
                }
                json(StatusCode::OK, &done)
            }
            Ok(Err(reason)) => text(StatusCode::CONFLICT, format!("{reason}\n")),
            Err(_) => gone(),
        }
    }
}

fn result(reload: &Reload) -> Value {
    match reload {
        Reload::Unchanged => json!({ "result": "unchanged" }),
        Reload::Replaced(component) => json!({
            "result": "replaced",
            "digest": &*component.digest,
            "generation": component.generation,
        }),
        Reload::Rejected(reason) => json!({ "result": "rejected", "reason": reason }),
    }
}

fn busy() -> Answer {
    let mut refusal =
        text(StatusCode::SERVICE_UNAVAILABLE, "another component is being pushed or reloaded\n");
    refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

/// The process is ending, or the thread has panicked.
fn gone() -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, "it did not come to an end\n")
}

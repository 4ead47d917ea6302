//! Changes of components: reload, push and roll back. They work on a thread that may block.

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

use super::answer::{AdminAnswer, json, text};

/// How long an upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How many components may be uploaded at once,
const UPLOADS: usize = 4;
/// and how many may wait for a reload.
const RELOADS: usize = 4;

/// Changes components.
#[derive(Debug)]
pub(super) struct Switches {
    components: Components,
    /// A component can be 64 MiB, and is in memory while it is uploaded.
    uploads: Semaphore,
    /// Who waits for a reload holds a thread for each component.
    reloads: Arc<Semaphore>,
}

impl Switches {
    pub(super) fn new(components: Components) -> Self {
        let (uploads, reloads) = (Semaphore::new(UPLOADS), Arc::new(Semaphore::new(RELOADS)));
        Self { components, uploads, reloads }
    }

    /// Loads changed components: 200, or 422 if one is refused.
    pub(super) async fn reload(&self) -> AdminAnswer {
        let Ok(place) = self.reloads.clone().try_acquire_owned() else { return busy() };
        let components = self.components.clone();
        let reloads = spawn_blocking(move || {
            // Held until the end, even if the client has left.
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

    /// Replaces a component and its file: 200, 422 if it is refused, or 409 if newer content came
    /// meanwhile.
    pub(super) async fn push(&self, name: String, body: Incoming) -> AdminAnswer {
        if !self.components.has(&name) {
            return text(StatusCode::NOT_FOUND, format!("no component `{name}`\n"));
        }
        let too_large = || {
            let limit = LARGEST_FILE >> 20;
            text(StatusCode::PAYLOAD_TOO_LARGE, format!("a component can have up to {limit} MiB\n"))
        };
        if body.size_hint().lower() > LARGEST_FILE {
            return too_large();
        }
        let Ok(place) = self.uploads.try_acquire() else { return busy() };
        let limit = usize::try_from(LARGEST_FILE).unwrap_or(usize::MAX);
        let bytes = match timeout(UPLOAD_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
            Ok(Err(_)) => {
                return text(StatusCode::BAD_REQUEST, "the upload is incomplete\n");
            }
            Err(_) => {
                return text(StatusCode::REQUEST_TIMEOUT, "the upload took too long\n");
            }
        };
        drop(place);
        let components = self.components.clone();
        let reload = spawn_blocking(move || components.push(&name, bytes.into()));
        let Ok(reload) = reload.await else { return gone() };
        let status = match reload {
            Reload::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Reload::Overtaken => StatusCode::CONFLICT,
            Reload::Unchanged | Reload::Replaced(_) => StatusCode::OK,
        };
        json(status, &result(&reload))
    }

    /// Puts the previous version back: 200, or 409 if there is none.
    pub(super) async fn roll_back(&self, name: String) -> AdminAnswer {
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
        Reload::Overtaken => json!({ "result": "overtaken" }),
        Reload::Rejected(reason) => json!({ "result": "rejected", "reason": reason }),
    }
}

fn busy() -> AdminAnswer {
    let mut refusal =
        text(StatusCode::SERVICE_UNAVAILABLE, "too many components are being pushed or reloaded\n");
    refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

/// The process is ending, or the thread panicked.
fn gone() -> AdminAnswer {
    text(StatusCode::INTERNAL_SERVER_ERROR, "the change did not finish\n")
}

//! Fields of a response that are about the call which brought it: what keeps the response for
//! others must not give them to these.

use http::{HeaderMap, HeaderName};

/// What a limiter allows (draft-ietf-httpapi-ratelimit-headers).
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it.
pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

const CALL_FIELDS: [HeaderName; 2] = [RATE_LIMIT_POLICY, RATE_LIMIT];

/// Takes them away.
pub(crate) fn remove(headers: &mut HeaderMap) {
    for name in CALL_FIELDS {
        headers.remove(name);
    }
}

/// Those among `from`. Most responses have none, and then it costs no memory.
pub(crate) fn among(from: &HeaderMap) -> HeaderMap {
    let fields = CALL_FIELDS.into_iter().flat_map(|name| {
        let values = from.get_all(&name).iter().cloned();
        values.map(|value| (name.clone(), value)).collect::<Vec<_>>()
    });
    fields.collect()
}

//! The header fields `RateLimit-Policy` and `RateLimit` of the IETF draft
//! (draft-ietf-httpapi-ratelimit-headers): what a client may ask for, and what is left of it.

use http::{HeaderMap, HeaderValue};

use super::bucket::BucketSettings;
use super::shared::BucketStatus;
use crate::call_fields::{RATE_LIMIT, RATE_LIMIT_POLICY};

/// What a limiter tells its clients.
#[derive(Debug)]
pub(super) struct RateLimitFields {
    /// A string of a structured field (RFC 9651).
    name: String,
    policy: HeaderValue,
}

impl RateLimitFields {
    /// Those of a policy with this name. `None`: a field can't hold it.
    pub(super) fn of(name: &str, settings: BucketSettings) -> Option<Self> {
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return None;
        }
        let name = format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\""));
        let mut policy = format!("{name};q={}", settings.limit);
        if settings.per.subsec_nanos() == 0 {
            policy += &format!(";w={}", settings.per.as_secs());
        }
        let policy = HeaderValue::try_from(policy).ok()?;
        Some(Self { name, policy })
    }

    /// Adds them; there may be those of another limiter already.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, status: BucketStatus) {
        let BucketStatus { tokens, until_full, .. } = status;
        let seconds = until_full.as_secs() + u64::from(until_full.subsec_nanos() > 0);
        headers.append(RATE_LIMIT_POLICY, self.policy.clone());
        if let Ok(left) = HeaderValue::try_from(format!("{};r={tokens};t={seconds}", self.name)) {
            headers.append(RATE_LIMIT, left);
        }
    }
}

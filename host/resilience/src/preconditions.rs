//! The preconditions of an attempt (RFC 9110, section 13.1): those of a policy that has a response
//! already, in place of the client's own.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What an attempt sends in place of the preconditions of the client's request.
#[derive(Clone, Debug, Default)]
pub struct Preconditions(Vec<(HeaderName, HeaderValue)>);

impl Preconditions {
    /// None: the whole response is wanted.
    pub fn none() -> Self {
        Self::default()
    }

    /// A response only if it is another one than that with these headers.
    pub(crate) fn unless(headers: &HeaderMap) -> Self {
        let validators = [
            (header::ETAG, header::IF_NONE_MATCH),
            (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
        ];
        let fields = validators.into_iter().filter_map(|(validator, condition)| {
            Some((condition, headers.get(validator)?.clone()))
        });
        Self(fields.collect())
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they take the place of this header of the client's.
    pub fn replace(name: &HeaderName) -> bool {
        matches!(
            *name,
            header::IF_MATCH
                | header::IF_NONE_MATCH
                | header::IF_MODIFIED_SINCE
                | header::IF_UNMODIFIED_SINCE
                | header::IF_RANGE
        )
    }

    /// The headers that say so.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> + Clone {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

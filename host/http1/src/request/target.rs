//! Request targets (RFC 9112, section 3.2).

use bytes::Bytes;
use http::{Method, Uri};

use super::fault::RequestFault;

/// The longest that `Uri` takes.
const LONGEST: usize = u16::MAX as usize - 1;

/// The target of a request that is no `CONNECT`.
pub(super) fn target(method: &Method, text: Bytes) -> Result<Uri, RequestFault> {
    if text.len() > LONGEST {
        return Err(RequestFault::TargetTooLong);
    }
    let (length, is_ascii) = (text.len(), text.is_ascii());
    let (is_origin, is_asterisk) = (text.starts_with(b"/"), *text == b"*"[..]);
    // `Uri` drops a fragment, and `DELETE /all#but` would delete all.
    let has_fragment = !is_origin && text.contains(&b'#');
    let target = Uri::from_maybe_shared(text).map_err(|_| RequestFault::Target)?;
    let is_known = if is_origin {
        target.path_and_query().is_some_and(|path| path.as_str().len() == length)
    } else if is_asterisk {
        method == Method::OPTIONS
    } else {
        !has_fragment && matches!(target.scheme_str(), Some("http" | "https"))
    };
    // It takes no control characters, but the rest of 8 bits.
    if is_known && is_ascii { Ok(target) } else { Err(RequestFault::Target) }
}

//! Request targets (RFC 9112, section 3.2).

use bytes::Bytes;
use http::{Method, Uri};

use super::fault::RequestFault;

/// The longest that `Uri` takes.
const LONGEST: usize = u16::MAX as usize - 1;

/// The target of a request that is no `CONNECT`.
pub(super) fn target(method: &Method, text: Bytes) -> Result<Uri, RequestFault> {
    // `Uri` would drop a fragment, and `DELETE /all#but-this` delete all.
    let is_plain = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b'#';
    if !text.iter().fold(true, |all, byte| all & is_plain(*byte)) {
        return Err(RequestFault::Target);
    }
    if text.len() > LONGEST {
        return Err(RequestFault::TargetTooLong);
    }
    let is_origin = text.first() == Some(&b'/');
    let is_asterisk = *text == b"*"[..];
    let target = Uri::from_maybe_shared(text).map_err(|_| RequestFault::Target)?;
    let is_absolute = || matches!(target.scheme_str(), Some("http" | "https"));
    let is_known = is_origin || if is_asterisk { method == Method::OPTIONS } else { is_absolute() };
    if is_known { Ok(target) } else { Err(RequestFault::Target) }
}

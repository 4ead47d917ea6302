//! What the heads of requests and of responses have in common.

mod fields;
mod names;
mod progress;

pub(crate) use fields::{BodyFields, LengthFlaw, Noted, items, plain_number};
pub(crate) use names::is_forwarded;
pub use names::is_shadow;
pub(crate) use progress::Progress;

use std::ops::Range;

use smallvec::SmallVec;

/// Room for what a proxy adds to the headers.
pub(crate) const ROOM: usize = 4;

/// Where the names and values of fields stand in the bytes of their head.
pub(crate) type FieldPlaces = SmallVec<[(Range<usize>, Range<usize>); 24]>;

/// Where `fields` stand in `bytes`, which they were parsed from. They go into a list that is large
/// and would be copied when it is returned.
pub(crate) fn find_places(into: &mut FieldPlaces, bytes: &[u8], fields: &[httparse::Header<'_>]) {
    let fields = fields.iter();
    into.extend(fields.map(|it| (place(bytes, it.name.as_bytes()), place(bytes, it.value))));
}

/// Where `part`, which is one, stands in `bytes`.
pub(crate) fn place(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let from = part.as_ptr().addr() - bytes.as_ptr().addr();
    from..from + part.len()
}

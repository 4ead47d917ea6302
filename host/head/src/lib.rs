//! The header fields of a response, between the protocols and the policies.
//!
//! Most responses over HTTP/1.1 go on as they came, and hardly anybody looks into their headers. To
//! put each field into a map, and to take it out again, was a tenth of what a request costs
//! (`docs/performance.md`). So what comes stays the bytes that it is, with an index of where its
//! fields stand, and lines that go on unchanged are copied in one piece. Questions are answered
//! from the bytes; who needs all the fields, or changes them, gets a map, which is made then.
//!
//! Both forms give the same answers in the same order, which is a map's: that is what went out
//! before, and what HTTP/2 and the cache make of it.

mod came;
mod fields;
mod filter;
mod names;
mod put;

pub use came::{CameFields, FieldIndex, HopField};
pub use fields::{FieldLookup, FieldMemory, HeaderFields, text};
pub use filter::NameSet;
pub use names::field_name;
pub use put::put_field;

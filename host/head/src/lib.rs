//! The header fields of a response, between the protocols and the policies.

mod fields;
mod put;

pub use fields::{FieldLookup, HeaderFields, text};
pub use put::put_field;

//! Requests.

mod encode;

pub use encode::encode_request;

//! Responses.

mod head;

pub use head::{ResponseFault, ResponseHead, ResponseHeadParser};

//! Bodies, and what may come after them.

mod decoder;
mod encoder;
mod trailers;

pub use decoder::{BodyDecoder, BodyError, Decoded};
pub use encoder::{BodyEncoder, WrongLength};
pub use trailers::may_trail;

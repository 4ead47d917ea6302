//! What a body of either direction is read from.

use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;

use crate::error::Error;

/// A body of any make. Not `Send`: a request lives and ends on one worker.
pub type BodyStream = Pin<Box<dyn Body<Data = Bytes, Error = Error>>>;

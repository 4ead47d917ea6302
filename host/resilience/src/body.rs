//! Bodies in both directions.
//!
//! [`RequestBody`] can be sent again by a further attempt, up to a limit. [`ResponseBody`] can be
//! looked into before it goes on, and tells how it ended.

mod ahead;
mod end;
mod event_stream;
mod kept;
mod part;
mod request;
mod response;
mod starvation;
mod stream;

pub use end::{BodyEnd, LateFailureCause, OnEnd};
pub use kept::ReplayMemory;
pub(crate) use part::BodyPart;
pub use request::{AttemptBody, BodyHold, ReplayLimit, RequestBody};
pub use response::{Peek, ResponseBody};
pub use starvation::Starved;
pub use stream::BodyStream;

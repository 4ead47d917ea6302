//! What tests of several crates, and the tour, need, once:
//!
//! - [`Origin`], an upstream that sends exactly what it is told and remembers what it got, and
//!   [`ClosedDoor`], one that accepts no connection;
//! - [`H2Origin`], the same over HTTP/2, and [`FramedConnection`], of one that keeps to no rule;
//! - [`NameServer`], which says where names are, as it is told;
//! - [`Wire`], HTTP/1 over a socket as bytes, for both sides, and [`Message`], what came over it;
//! - [`Authority`], certificates, for [`Wire`] over TLS;
//! - [`RawFrame`], HTTP/2 over a [`Wire`], frame by frame, valid or not, and [`HeaderDecoder`];
//! - [`Daemon`], a program that runs and logs, of which a thread may be frozen, and [`run`], one
//!   that ends by itself;
//! - [`wat_component`], components as text;
//! - [`eventually`] and [`LIMIT`]: nothing sleeps and hopes; whatever has to come is waited for.
//!
//! Everything panics where a test has to fail.

mod authority;
mod closed_door;
mod daemon;
mod framed;
#[cfg(target_os = "linux")]
mod frozen;
mod guest;
mod h2_origin;
mod header_decoder;
mod message;
mod name_server;
mod origin;
mod raw_frame;
mod run;
mod session;
mod wait;
mod wire;

pub use authority::{Authority, Issued};
pub use closed_door::ClosedDoor;
pub use daemon::Daemon;
pub use framed::FramedConnection;
#[cfg(target_os = "linux")]
pub use frozen::FrozenThread;
pub use guest::{
    DELAY, FALLBACK, KEY, PREDICATE, STDERR, TYPES, after, encode, handle_if, is_status, key,
    predicate, respond, responds, trailer_predicate, waits, wat_component,
};
pub use h2_origin::{H2Exchange, H2Origin, H2Seen};
pub use header_decoder::{HeaderDecoder, RawField};
pub use message::{Message, answer, get, ok, post};
pub use name_server::{NXDOMAIN, NameQuestion, NameServer, Offer, SERVFAIL, Says, local};
pub use origin::{Origin, OriginConnection, Seen};
pub use raw_frame::{GET, POST, PREFACE, RawFrame, flag, header_block, kind};
pub use run::{Ran, run};
pub use session::Session;
pub use wait::{Ends, LIMIT, eventually};
pub use wire::{Wire, try_ask};

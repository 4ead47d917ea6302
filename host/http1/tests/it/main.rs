//! What this crate makes of a server's bytes beside what hyper's client makes of them.

mod both;
mod corpus;
mod generated;

//! What this crate makes of the other side's bytes beside what hyper makes of them.

mod generated_answers;
mod generated_requests;
mod generated_responses;
mod heads_on_their_way;
mod odd_requests;
mod requests;
mod responses;
mod script;
mod seen;
mod served;

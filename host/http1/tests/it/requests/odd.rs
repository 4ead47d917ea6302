//! An odd request.

/// What a client sends on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OddRequest {
    pub(crate) what: &'static str,
    pub(crate) sent: &'static str,
    /// What this crate sees: each whole request, then how it ends, as in
    /// `GET /a | POST /b "hello" (x-sum: 1) | 400 line-end`. `end`: no other request is taken. `…`:
    /// more has to come.
    pub(crate) seen: &'static str,
    /// Why hyper sees something else. Empty: it does not.
    pub(crate) hyper: &'static str,
    /// Why nobody else sees the same. Empty: somebody does.
    pub(crate) alone: &'static str,
}

impl OddRequest {
    /// Read alike by both.
    pub(super) const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> Self {
        Self { what, sent, seen, hyper: "", alone: "" }
    }

    pub(super) const fn but(mut self, hyper: &'static str) -> Self {
        self.hyper = hyper;
        self
    }

    pub(super) const fn alone(mut self, why: &'static str) -> Self {
        self.alone = why;
        self
    }
}

//! What log and metrics have in the place of a route.

/// The route of requests that no route takes, and of what is no request.
pub const NO_ROUTE: &str = "none";

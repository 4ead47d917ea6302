//! The pipeline as its users meet it: policies built from configuration, run against a scripted
//! upstream on a paused clock, so that every time in these tests is exact.

mod adaptive_limiter;
mod adaptive_throttler;
mod bad_input;
mod blame;
mod bodies;
mod bulkhead;
mod cache;
mod cancellation;
mod circuit_breaker;
mod composition;
mod conditions;
mod deadline;
mod delays;
mod elsewhere;
mod endpoints;
mod fallback;
mod grpc;
mod hedge;
mod keys;
mod late;
mod oracle;
mod rate_limiter;
mod regressions;
mod retry;
mod review;
mod sameness;
mod simulations;
mod spare_headers;
mod streams;
mod support;
mod timeout;
mod trailers;
mod waits;

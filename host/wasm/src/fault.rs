//! What went wrong in a call into a guest, told apart by its cause.

use std::fmt;

use fusebox_resilience::Fault;
use fusebox_resilience::config::ConfigDuration;
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use crate::instances::{RESOURCES, State};
use crate::limits::Refused;
use crate::wasi::Console;

/// Bytes of a detail.
const DETAIL: usize = 1024;

/// A call into a guest that came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// What the runtime says of it, and what the guest printed before.
    pub(crate) detail: String,
    /// The lines that the guest printed, for events of their own.
    pub(crate) printed: Vec<String>,
}

impl Failure {
    /// What `error`, which ended a call, was.
    pub(crate) fn of_call(error: &wasmtime::Error, state: &State) -> Self {
        let fault = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Fault::Timeout,
            Some(Trap::StackOverflow) => Fault::Stack,
            trap => match state.limits().refused() {
                Some(Refused::Memory) => Fault::Memory,
                Some(Refused::Table) => Fault::Table,
                None if trap.is_some() || error.is::<I32Exit>() => Fault::Trap,
                None if is_hostcall_limit(error) || is_oversized(error) => Fault::HostBytes,
                None if error.is::<TooManyCalls>() => Fault::HostCalls,
                None if error.is::<Misuse>() => Fault::Misuse,
                None if is_table_full(error) => Fault::Table,
                // What is left is what could not be read: pointers out of bounds, text that is not
                // UTF-8, bad values.
                None => Fault::BadAnswer,
            },
        };
        Self::new(fault, error, state)
    }

    /// What `error`, which kept an instance from starting, was.
    pub(crate) fn of_start(error: &wasmtime::Error, state: &State) -> Self {
        Self::new(Fault::Instantiation, error, state)
    }

    fn new(fault: Fault, error: &wasmtime::Error, state: &State) -> Self {
        Self::of_answer(fault, reason(error, state), state.console())
    }

    /// An answer that is none, or came too late, for the reason in `detail`.
    pub(crate) fn of_answer(fault: Fault, mut detail: String, console: &Console) -> Self {
        let printed = console.take();
        for line in &printed {
            detail.push_str(" | ");
            detail.push_str(line);
        }
        if detail.len() > DETAIL {
            detail.truncate(detail.floor_char_boundary(DETAIL));
            detail.push('…');
        }
        Self { fault, detail, printed }
    }
}

fn reason(error: &wasmtime::Error, state: &State) -> String {
    let cause = format!("{error:#}").replace("wasm trap: ", "");
    let config = state.version().config();
    match (error.downcast_ref::<Trap>(), state.limits().refused()) {
        (Some(Trap::Interrupt), _) => format!("took longer than {}", ConfigDuration(state.limit())),
        (Some(Trap::StackOverflow), _) => format!("needed more than {} of stack", config.stack),
        (_, Some(Refused::Memory)) => {
            format!("asked for more than {} of memory: {cause}", config.memory)
        }
        (_, Some(Refused::Table)) => {
            format!("asked for more than {} table elements: {cause}", config.table_elements)
        }
        (None, None) if is_table_full(error) => {
            format!("asked for more than {RESOURCES} streams and the like: {cause}")
        }
        (None, None) if is_hostcall_limit(error) => {
            format!("handed over, or asked for, more than {} in one call", config.hostcall_bytes)
        }
        _ => cause,
    }
}

/// wasmtime keeps the type of this error to itself. A test holds its words against a guest that
/// provokes it.
fn is_hostcall_limit(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

/// Of random bytes, or of zeros to be written: wasmtime-wasi's own bounds, which have no type
/// either.
fn is_oversized(error: &wasmtime::Error) -> bool {
    let cause = error.root_cause().to_string();
    ["requested len", "Buffer too large", "cannot write more zeroes"]
        .iter()
        .any(|words| cause.starts_with(words))
}

fn is_table_full(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

/// A guest called what it may not call there, or waited.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) &'static str);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misuse {}

/// A guest called the host more often than it may.
#[derive(Debug)]
pub(crate) struct TooManyCalls(pub(crate) u32);

impl fmt::Display for TooManyCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "called the host more than {} times in one call", self.0)
    }
}

impl std::error::Error for TooManyCalls {}

/// A guest answered with something that is no answer.
#[derive(Debug)]
pub(crate) struct BadAnswer(pub(crate) String);

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadAnswer {}

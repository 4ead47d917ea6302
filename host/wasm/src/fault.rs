//! Faults: failed calls into a guest, classified by cause.

use fusebox_resilience::Fault;
use fusebox_resilience::config::ConfigDuration;
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use crate::errors::{Misuse, TooManyCalls};
use crate::limits::Refused;
use crate::store::{HostState, RESOURCES};
use crate::wasi::console::Console;

/// Bytes of a detail.
const DETAIL: usize = 1024;

/// A failed call into a guest.
#[derive(Debug)]
pub(crate) struct GuestFailure {
    pub(crate) fault: Fault,
    /// The runtime's reason, and what the guest printed before.
    pub(crate) detail: String,
    /// The lines that the guest printed, for events of their own.
    pub(crate) printed: Vec<String>,
}

impl GuestFailure {
    /// Classifies the error that ended a call.
    pub(crate) fn of_call(error: &wasmtime::Error, state: &HostState) -> Self {
        let fault = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Fault::Timeout,
            Some(Trap::StackOverflow) => Fault::Stack,
            trap => match state.limiter().refused() {
                Some(Refused::Memory) => Fault::Memory,
                Some(Refused::TotalMemory) => Fault::TotalMemory,
                Some(Refused::Table) => Fault::Table,
                None if trap.is_some() || error.is::<I32Exit>() => Fault::Trap,
                None if is_hostcall_limit(error) || is_oversized(error) => Fault::HostBytes,
                None if error.is::<TooManyCalls>() => Fault::HostCalls,
                None if error.is::<Misuse>() => Fault::Misuse,
                None if is_table_full(error) => Fault::Table,
                // The rest are values that could not be read: pointers out of bounds, text that is
                // not UTF-8, invalid values.
                None => Fault::BadAnswer,
            },
        };
        Self::new(fault, error, state)
    }

    /// Classifies the error that kept an instance from starting.
    pub(crate) fn of_start(error: &wasmtime::Error, state: &HostState) -> Self {
        let fault = match state.limiter().refused() {
            Some(Refused::TotalMemory) => Fault::TotalMemory,
            _ => Fault::Instantiation,
        };
        Self::new(fault, error, state)
    }

    fn new(fault: Fault, error: &wasmtime::Error, state: &HostState) -> Self {
        Self::of_answer(fault, reason(error, state), state.console())
    }

    /// An unacceptable or late answer, for the reason in `detail`.
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

fn reason(error: &wasmtime::Error, state: &HostState) -> String {
    let cause = format!("{error:#}").replace("wasm trap: ", "");
    let bounds = state.bounds();
    match (error.downcast_ref::<Trap>(), state.limiter().refused()) {
        (Some(Trap::Interrupt), _) => {
            format!("took longer than {}", ConfigDuration(state.time_limit()))
        }
        (Some(Trap::StackOverflow), _) => format!("needed more than {} of stack", bounds.stack),
        (_, Some(Refused::Memory)) => {
            format!("asked for more than {} of memory: {cause}", bounds.memory)
        }
        (_, Some(Refused::TotalMemory)) => {
            let total = state.limiter().total_memory();
            format!("all components together would hold more than {total} of memory: {cause}")
        }
        (_, Some(Refused::Table)) => {
            format!("asked for more than {} table elements: {cause}", bounds.table_elements)
        }
        (None, None) if is_table_full(error) => {
            format!("asked for more than {RESOURCES} streams and the like: {cause}")
        }
        (None, None) if is_hostcall_limit(error) => {
            format!("handed over, or asked for, more than {} at once", bounds.hostcall_bytes)
        }
        _ => cause,
    }
}

/// The type of this error is private to wasmtime. A test with a guest that provokes it checks the
/// wording.
fn is_hostcall_limit(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

/// The bounds of wasmtime-wasi on random bytes and zeros, whose errors have no type either.
fn is_oversized(error: &wasmtime::Error) -> bool {
    let cause = error.root_cause().to_string();
    ["requested len", "Buffer too large", "cannot write more zeroes"]
        .iter()
        .any(|words| cause.starts_with(words))
}

fn is_table_full(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

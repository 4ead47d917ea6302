//! [`FrozenThread`]: one thread of a program that stands still while its others go on.

use std::convert::Infallible;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A thread that stands still until this is dropped.
#[derive(Debug)]
pub struct FrozenThread {
    /// Dropped first, which ends the tracer.
    thaw: Option<Sender<Infallible>>,
    tracer: Option<JoinHandle<()>>,
}

impl FrozenThread {
    /// The thread of this name of the process `id`, which must be a child of ours.
    #[track_caller]
    pub fn of(id: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("it runs").flatten();
        let mut named = tasks.filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let task = named.next().unwrap_or_else(|| panic!("no thread `{name}`"));
        let thread = task.file_name().to_string_lossy().parse().expect("a number");
        let (frozen, is_frozen) = channel();
        let (thaw, end) = channel();
        // What a thread traces goes on when that thread ends.
        let tracer = thread::spawn(move || {
            frozen.send(freeze(thread)).ok();
            while end.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
                bury(thread);
            }
        });
        assert!(is_frozen.recv().expect("a tracer"), "`{name}` can't be stopped");
        Self { thaw: Some(thaw), tracer: Some(tracer) }
    }
}

impl Drop for FrozenThread {
    fn drop(&mut self) {
        self.thaw.take();
        self.tracer.take().map(JoinHandle::join);
    }
}

#[expect(unsafe_code, reason = "the system has no other way to stop one thread")]
fn freeze(thread: libc::pid_t) -> bool {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: both calls take a thread's id and no address of ours.
    unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing) == 0
    }
}

/// A process does not end before its traced threads have been waited for.
#[expect(unsafe_code, reason = "the standard library waits for processes only")]
fn bury(thread: libc::pid_t) {
    // SAFETY: without an address the state goes nowhere.
    unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
}

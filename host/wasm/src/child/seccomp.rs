//! The system calls that compiling needs; every other one fails with `EPERM`.
//!
//! A list of what is allowed, not of what is refused: the kernel gets new calls every year. What is
//! left opens, connects, starts and signals nothing: it reaches the process itself and its pipes.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use anyhow::Context as _;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// By what needs them.
const ALLOWED: &[libc::c_long] = &[
    // The pipes.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    // The allocator.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_futex,
    // Panics, aborts and the end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Confines this thread, which is the child's only one, for ever. It and what it started could then
/// get no more rights either (`no_new_privs`).
///
/// # Errors
/// The kernel has no seccomp, or does not let it be used.
pub(super) fn confine() -> anyhow::Result<()> {
    apply_filter(&filter()?).context("seccomp")
}

fn filter() -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // `abort` sends the process a signal; no other process may get one.
    let is_own =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![is_own])?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::try_from(ARCH)?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_confined_reaches_only_what_it_has() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (mut inside, mut outside) = io::pipe().expect("a pipe");
        outside.write_all(b"in").expect("it takes it");
        // A filter is for the thread that applies it, and for ever.
        let confined = thread::spawn(move || {
            confine().expect("seccomp");
            let refused = [
                ("open", File::open("/dev/null").map(drop)),
                ("create", File::create("/tmp/fusebox-confined").map(drop)),
                ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
                ("connect", TcpStream::connect(address).map(drop)),
                ("datagram", UdpSocket::bind("127.0.0.1:0").map(drop)),
                ("exec", Command::new("/bin/true").status().map(drop)),
                ("remove", std::fs::remove_dir("/tmp/fusebox-confined")),
                ("thread", thread::Builder::new().spawn(|| {}).map(drop)),
            ];
            let refused =
                refused.map(|(what, done): (_, io::Result<()>)| (what, done.map_err(|e| e.kind())));
            let mut read = [0; 2];
            inside.read_exact(&mut read).expect("what it has it may read");
            // What an allocator asks the kernel for.
            let memory = vec![1_u8; 64 << 20];
            (refused, read, memory.len())
        });
        let (refused, read, length) = confined.join().expect("it ends as any other");
        for (what, done) in refused {
            assert_eq!(done, Err(ErrorKind::PermissionDenied), "{what}");
        }
        assert_eq!((&read, length), (b"in", 64 << 20));
        File::open("/dev/null").expect("other threads are as they were");
    }
}

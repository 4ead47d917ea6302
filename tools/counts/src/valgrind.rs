//! Starting a program under valgrind.

use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result, anyhow};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// `prctl`, on x86-64.
const PRCTL: i64 = 157;

/// Asks for the auxiliary vector.
const PR_GET_AUXV: u64 = 0x4155_5856;

/// The kernel's error for an unknown operation.
const EINVAL: u32 = 22;

/// A command that runs a program, which is to be appended, under this tool of valgrind.
pub(crate) fn valgrind(tool: &str) -> Command {
    let mut command = Command::new("valgrind");
    command.arg(format!("--tool={tool}")).arg("--quiet");
    command
}

/// Starts it on a kernel without `PR_GET_AUXV`.
///
/// Through that a program finds the kernel's own functions, which valgrind has unmapped; in
/// `/proc/self/auxv`, where it looks otherwise, valgrind has left them out. Valgrind up to 3.19
/// lets it pass, and the program crashes when it first reads the processor time of a guest.
pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    // A filter is for ever, and for the thread that applies it and what that starts.
    let spawning = thread::spawn(move || {
        apply_filter(&without_auxv()?)?;
        command.spawn().context("valgrind: install it (Debian: apt-get install valgrind)")
    });
    spawning.join().map_err(|_| anyhow!("valgrind could not be started"))?
}

fn without_auxv() -> Result<BpfProgram> {
    let asks = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_GET_AUXV)?;
    let rules = [(PRCTL, vec![SeccompRule::new(vec![asks])?])].into_iter().collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(EINVAL),
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

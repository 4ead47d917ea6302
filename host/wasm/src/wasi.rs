//! WASI 0.2 as guests find it: all of it links, and all of it is empty.
//!
//! No arguments or directories, and of the environment only what was granted; files, sockets and
//! names are refused when they are asked for. Languages link more than they use (a Python guest
//! imports 25 interfaces), so an interface that is missing would keep them from loading.
//!
//! **No host function may block or enter a runtime.** Guests run on a worker, inside its runtime,
//! and epochs interrupt guests but not the host. wasmtime-wasi's synchronous functions wait with
//! `block_on`, which panics there. So whatever can wait is ours: [`io`] (streams and polling),
//! [`clock`] (what can be waited for), [`console`] (stdout and stderr), and the one socket
//! constructor that is asynchronous underneath. The rest of wasmtime-wasi never waits and is used
//! as it is; its files and sockets cannot be reached, since nothing hands out the first descriptor.
//!
//! Standard HTTP components may wait ([`http`](mod@crate::http)): they get wasmtime-wasi's
//! asynchronous functions throughout, and the same [`context`].

mod clock;
mod console;
mod io;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io as wasi_io, random, sockets, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{WasiCtx, WasiView as _};

pub(crate) use self::console::Console;
use self::io::{HasIo, NonBlocking};
use crate::config::Grant;
use crate::instances::State;

/// Random bytes that a guest gets at once; making them cannot be interrupted.
const RANDOM_BYTES: u64 = 64 << 10;

/// What a fresh instance finds: nothing but a console, and what it was granted.
pub(crate) fn context(console: &Console, grants: &[Grant]) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(console.clone())
        .stderr(console.clone())
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for grant in grants {
        // One that is not set, or is no text, is as absent for the guest as for the host.
        if let Grant::Env(name) = grant
            && let Ok(value) = std::env::var(name)
        {
            builder.env(name, value);
        }
    }
    builder.build()
}

/// Adds everything of `wasi:cli/imports@0.2`.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    // Ours.
    sync::io::poll::add_to_linker::<State, HasIo>(linker, |state| NonBlocking(state.ctx().table))?;
    sync::io::streams::add_to_linker::<State, HasIo>(linker, |state| {
        NonBlocking(state.ctx().table)
    })?;
    clocks::monotonic_clock::add_to_linker::<State, HasIo>(linker, |state| {
        NonBlocking(state.ctx().table)
    })?;
    refuse_udp(linker)?;

    // wasmtime-wasi's.
    wasi_io::error::add_to_linker::<State, HasTable>(linker, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    sync::filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<State, WasiSockets>(linker, &options, State::sockets)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sync::sockets::tcp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sync::sockets::udp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    Ok(())
}

/// Lends the resources of an instance to functions of wasmtime-wasi.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// wasmtime-wasi would enter a runtime even to refuse.
fn refuse_udp(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/udp-create-socket@0.2.0")?.func_wrap(
        "create-udp-socket",
        |_, (_family,): (IpAddressFamily,)| {
            Ok((Err::<Resource<UdpSocket>, _>(ErrorCode::AccessDenied),))
        },
    )
}

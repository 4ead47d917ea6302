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
pub(crate) mod console;
pub(crate) mod context;
mod io;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io as wasi_io, random, sockets, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use self::io::{HasIo, NonBlocking};
use crate::store::HostState;

/// Adds everything of `wasi:cli/imports@0.2`.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    // Ours.
    sync::io::poll::add_to_linker::<HostState, HasIo>(linker, |state| {
        NonBlocking(state.ctx().table)
    })?;
    sync::io::streams::add_to_linker::<HostState, HasIo>(linker, |state| {
        NonBlocking(state.ctx().table)
    })?;
    clocks::monotonic_clock::add_to_linker::<HostState, HasIo>(linker, |state| {
        NonBlocking(state.ctx().table)
    })?;
    refuse_udp(linker)?;

    // wasmtime-wasi's.
    wasi_io::error::add_to_linker::<HostState, HasTable>(linker, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<HostState, WasiClocks>(linker, HostState::clocks)?;
    random::random::add_to_linker::<HostState, WasiRandom>(linker, HostState::random)?;
    random::insecure::add_to_linker::<HostState, WasiRandom>(linker, HostState::random)?;
    random::insecure_seed::add_to_linker::<HostState, WasiRandom>(linker, HostState::random)?;
    cli::exit::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::environment::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::stdin::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::stdout::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::stderr::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::terminal_input::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::terminal_output::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stdin::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stdout::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stderr::add_to_linker::<HostState, WasiCli>(linker, HostState::cli)?;
    filesystem::preopens::add_to_linker::<HostState, WasiFilesystem>(
        linker,
        HostState::filesystem,
    )?;
    sync::filesystem::types::add_to_linker::<HostState, WasiFilesystem>(
        linker,
        HostState::filesystem,
    )?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<HostState, WasiSockets>(
        linker,
        &options,
        HostState::sockets,
    )?;
    sockets::instance_network::add_to_linker::<HostState, WasiSockets>(linker, HostState::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<HostState, WasiSockets>(linker, HostState::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<HostState, WasiSockets>(
        linker,
        HostState::sockets,
    )?;
    sync::sockets::tcp::add_to_linker::<HostState, WasiSockets>(linker, HostState::sockets)?;
    sync::sockets::udp::add_to_linker::<HostState, WasiSockets>(linker, HostState::sockets)?;
    Ok(())
}

/// Lends the resources of an instance to functions of wasmtime-wasi.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// wasmtime-wasi would enter a runtime even to refuse.
fn refuse_udp(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/udp-create-socket@0.2.0")?.func_wrap(
        "create-udp-socket",
        |_, (_family,): (IpAddressFamily,)| {
            Ok((Err::<Resource<UdpSocket>, _>(ErrorCode::AccessDenied),))
        },
    )
}

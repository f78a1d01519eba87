//! The kiln command.
//!
//! The terminal side of kiln: it turns flags and environment into requests, hands them to the
//! engine, and shows what comes back. Only `render` writes to standard output and error, only
//! `config` reads the environment, and `failure` knows the exit codes.

mod commands;
mod config;
mod failure;
mod generate;
mod interrupt;
mod render;
mod session;
mod settings;

use std::process::ExitCode;

/// Steps run in parallel and allocate in all threads; musl's own allocator is slow there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator does without huge pages, which double the memory of a small program, by a setting
    // that the commands of a build would inherit: those keep what the machine says.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    // Memory that is freed goes back soon: a third less at the peak, at no cost that shows.
    kiln_sandbox::set_purge_delay(Some(10));
    let config = config::Config::from_environment();
    render::install_panic_hook();
    let outcome = std::panic::catch_unwind(|| commands::main(&config));
    // Not piece by piece at the end of the process: all of it goes at once.
    kiln_sandbox::set_purge_delay(None);
    outcome.unwrap_or(ExitCode::from(failure::EXIT_BUG))
}

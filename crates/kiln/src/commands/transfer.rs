//! What commands have in common that move images: progress while they do.

use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt;
use crate::render;
use crate::render::progress::{Display, Mode};
use crate::session::Session;
use crate::session::transfer::Watch;

/// Runs transfers while progress is shown; Ctrl-C ends them.
pub(super) fn watched<T>(
    config: &Config,
    quiet: bool,
    run: impl FnOnce(&Session, Watch<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mode = match quiet {
        true => Mode::Quiet,
        false if render::terminal::stderr_is_terminal() && !config.is_dumb_terminal() => Mode::Tty,
        false => Mode::Plain,
    };
    let cancelled = interrupt::watch(mode)?;
    let session = Session::open(config)?;
    let display = Display::start(mode, render::stderr_style(config))
        .map_err(|error| Failure::environment(format!("no thread can be started: {error}")))?;
    let result = run(&session, Watch { events: display.sink(), cancelled: &cancelled });
    display.finish();
    session.settle();
    result
}

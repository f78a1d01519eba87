//! Ctrl-C: the first asks the build to end, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::render;
use crate::render::progress::Mode;

/// Watches SIGINT and SIGTERM. The flag becomes true with the first of them; the second exits with
/// 130. Where progress is drawn on a terminal that is restored before, which takes a thread;
/// elsewhere the handler does all.
///
/// # Errors
/// When the system has no handler or thread to give.
pub(crate) fn watch(mode: Mode) -> Result<Arc<AtomicBool>, Failure> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let watched = match mode {
        Mode::Tty => in_thread(&cancelled),
        Mode::Plain | Mode::RawJson | Mode::Quiet => in_handler(&cancelled),
    };
    watched.map_err(|error| Failure::environment(format!("signals cannot be watched: {error}")))?;
    Ok(cancelled)
}

fn in_handler(cancelled: &Arc<AtomicBool>) -> io::Result<()> {
    let code = i32::from(Failure::Interrupted.exit_code());
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag as it was.
        flag::register_conditional_shutdown(signal, code, Arc::clone(cancelled))?;
        flag::register(signal, Arc::clone(cancelled))?;
    }
    Ok(())
}

fn in_thread(cancelled: &Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let flag = Arc::clone(cancelled);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if flag.swap(true, Ordering::SeqCst) {
                render::restore_terminal();
                std::process::exit(i32::from(Failure::Interrupted.exit_code()));
            }
        }
    })?;
    Ok(())
}

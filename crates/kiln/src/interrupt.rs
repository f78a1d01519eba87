//! Ctrl-C: the first asks the build to end, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::render;

/// Watches SIGINT and SIGTERM from a thread of its own. The flag becomes true with the first of
/// them; the second restores the terminal and exits with 130.
pub(crate) fn watch() -> io::Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let flag = Arc::clone(&cancelled);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if flag.swap(true, Ordering::SeqCst) {
                render::restore_terminal();
                std::process::exit(i32::from(Failure::Interrupted.exit_code()));
            }
        }
    })?;
    Ok(cancelled)
}

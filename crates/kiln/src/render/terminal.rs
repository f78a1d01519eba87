//! Standard output and error: the only place that writes to them.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the cursor is hidden now, so that whatever ends the process can show it again.
static CURSOR_HIDDEN: AtomicBool = AtomicBool::new(false);

/// Writes to standard error, at once. A reader that is gone is no error.
pub(crate) fn stderr(text: &str) {
    if !text.is_empty() {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Writes to standard output, at once. A reader that is gone is no error.
pub(crate) fn stdout(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns and rows of the terminal at standard error; 80 × 24 when it does not say.
pub(crate) fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Hides the cursor while frames are drawn.
pub(crate) fn hide_cursor() {
    if !CURSOR_HIDDEN.swap(true, Ordering::SeqCst) {
        stderr("\x1b[?25l");
    }
}

/// Shows the cursor again if it was hidden.
pub(crate) fn restore() {
    if CURSOR_HIDDEN.swap(false, Ordering::SeqCst) {
        stderr("\x1b[?25h");
    }
}

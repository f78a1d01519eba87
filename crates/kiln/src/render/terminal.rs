//! Standard output and error: the only place that writes to them.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

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

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks for a line; `None` if there is none.
pub(crate) fn ask(prompt: &str) -> Option<String> {
    stderr(prompt);
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).ok()?;
    (count > 0).then(|| line.trim().to_owned())
}

/// Asks for something that is not shown while it is typed; `None` if there is nothing, and for
/// Ctrl-C.
pub(crate) fn ask_secret(prompt: &str) -> Option<String> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut hidden = before.clone();
    // Ctrl-C comes as a byte: nothing may end kiln while the terminal shows nothing.
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    stderr(prompt);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).ok()?;
    let mut line = Vec::new();
    let answer = loop {
        let mut byte = [0];
        match stdin.lock().read(&mut byte) {
            Ok(1) => match byte[0] {
                b'\n' | b'\r' => break Some(line),
                3 => break None,
                4 if line.is_empty() => break None,
                8 | 127 => drop(line.pop()),
                other => line.push(other),
            },
            _ => break None,
        }
    };
    let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
    stderr("\n");
    answer.and_then(|line| String::from_utf8(line).ok())
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

//! What is known of the memory of a command that has ended.
//!
//! The kernel reports the largest resident set of a process together with that of the program that it was before it
//! executed another one. A command was kiln, whose memory it shared: what is reported is at least kiln's own size, and
//! says nothing of commands that stayed below.

use std::sync::OnceLock;

use crate::sys;

/// Counts of the kernel's are this far off.
const SLACK_BYTES: u64 = 1 << 20;

/// The largest resident set of a command, of what was reported; `None` when it is not known. `own_bytes` is what was reported of
/// this process when the command had been executed.
pub(crate) fn command_peak(reported_bytes: u64, own_bytes: u64) -> Option<u64> {
    let is_above = |bytes: u64| reported_bytes > bytes + SLACK_BYTES;
    (is_above(own_bytes) || is_above(own_peak(own_bytes)?)).then_some(reported_bytes)
}

/// The largest resident set of this program; `None` when `own_bytes` is just that. It is more when whoever started this process
/// was larger, and lent it its memory to start in.
fn own_peak(own_bytes: u64) -> Option<u64> {
    // Of most processes it is not, and they look once.
    static IS_OWN: OnceLock<bool> = OnceLock::new();
    if IS_OWN.get() == Some(&true) {
        return None;
    }
    let peak = high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)?;
    let is_own = own_bytes <= peak + SLACK_BYTES;
    (!*IS_OWN.get_or_init(|| is_own)).then_some(peak)
}

/// `VmHWM` of `/proc/PID/status`.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What is reported of this process.
pub(crate) fn own_bytes() -> u64 {
    sys::own_max_rss_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_as_the_kernel_prints_it() {
        let status = "VmPeak:\t    9000 kB\nVmHWM:\t    5120 kB\nVmRSS:\t    5000 kB\n";
        assert_eq!(high_water_mark(status), Some(5120 * 1024));
        assert_eq!(high_water_mark("VmRSS:\t 1 kB\n"), None);
    }
}

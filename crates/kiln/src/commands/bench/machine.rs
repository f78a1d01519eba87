//! The machine that is measured on, and how busy it is.

use std::fs;
use std::time::{Duration, Instant};

use kiln_core::benchmark::Machine;

/// How long the processors are looked at.
const GLANCE: Duration = Duration::from_millis(150);
/// How long a machine is waited for that is busy.
const PATIENCE: Duration = Duration::from_secs(3);
/// In hundredths: what is less is quiet.
const QUIET_PERCENT: f64 = 15.0;

/// What figures depend on, as it is now.
pub(super) fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory_kib = line(&read("/proc/meminfo"), "MemTotal");
    let memory_kib = memory_kib.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    Machine {
        processor: line(&read("/proc/cpuinfo"), "model name")
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load: read("/proc/loadavg")
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or(0.0),
        busy_percent: 0.0,
    }
}

/// Waits until what was written is on the disk and the machine is quiet, but not for long; gives how busy it
/// is then, in hundredths of all processors.
pub(super) fn settle() -> f64 {
    rustix::fs::sync();
    let begin = Instant::now();
    loop {
        let busy = busy_percent();
        if busy < QUIET_PERCENT || begin.elapsed() > PATIENCE {
            return busy;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of ticks")]
fn busy_percent() -> f64 {
    let (all_before, idle_before) = ticks();
    std::thread::sleep(GLANCE);
    let (all_after, idle_after) = ticks();
    let all = all_after.saturating_sub(all_before).max(1) as f64;
    let idle = idle_after.saturating_sub(idle_before) as f64;
    (100.0 * (1.0 - idle / all)).clamp(0.0, 100.0)
}

/// Of all processors: in all, and idle or waiting for a disk (`proc_stat(5)`).
fn ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let numbers: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    (numbers.iter().sum(), numbers.iter().skip(3).take(2).sum())
}

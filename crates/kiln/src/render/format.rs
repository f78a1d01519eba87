//! Sizes, durations and ages as people read them.

use std::time::Duration;

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
/// Decimal units, as Docker shows sizes: `512B`, `1.5kB`, `45.6MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// Tenths of a second up to a minute, then minutes: `3.4s`, `1m05s`, `2h03m`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..60 => format!("{whole}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// With the digits that a short time needs: `9ms`, `0.31s`, `12.3s`, `1m05s`.
pub(crate) fn duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0..100 => format!("{milliseconds}ms"),
        100..10_000 => format!("{:.2}s", duration.as_secs_f64()),
        _ => seconds(duration),
    }
}

/// A long time: `30 days`, `12 hours`.
pub(crate) fn days(duration: Duration) -> String {
    let seconds = duration.as_secs() as usize;
    match seconds {
        172_800.. => count(seconds / 86_400, "day"),
        7200.. => count(seconds / 3600, "hour"),
        _ => count(seconds / 60, "minute"),
    }
}

/// How long ago something was: `3 days ago`. A negative age is `just now`.
pub(crate) fn age(age_seconds: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let unit = UNITS.iter().find(|(seconds, _)| age_seconds >= *seconds);
    match unit {
        None => "just now".to_owned(),
        Some((seconds, name)) => format!("{} ago", count((age_seconds / seconds) as usize, name)),
    }
}

/// A number and its noun: `1 step`, `2 steps`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown = [0, 999, 1000, 9_994, 45_600, 999_499, 999_500, 123_456_789].map(size);
        let expected = ["0B", "999B", "1.00kB", "9.99kB", "45.6kB", "999kB", "1.00MB", "123MB"];
        assert_eq!(shown, expected);
        assert_eq!(size(u64::MAX), "18447PB");
    }

    #[test]
    fn times_are_short() {
        let ms = Duration::from_millis;
        assert_eq!(seconds(ms(59_999)), "59.9s");
        assert_eq!(seconds(ms(65_000)), "1m05s");
        assert_eq!(seconds(ms(7_380_000)), "2h03m");
        assert_eq!(duration(ms(9)), "9ms");
        assert_eq!(duration(ms(314)), "0.31s");
        assert_eq!(duration(ms(12_345)), "12.3s");
    }

    #[test]
    fn ages_take_the_largest_unit() {
        let shown = [-5, 59, 60, 7200, 86_400 * 9, 86_400 * 800].map(age);
        let expected =
            ["just now", "just now", "1 minute ago", "2 hours ago", "1 week ago", "2 years ago"];
        assert_eq!(shown, expected);
    }
}

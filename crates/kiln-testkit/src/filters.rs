//! What a program printed, with all that changes from run to run replaced by placeholders, so
//! that it can be compared with a snapshot.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Replaces digests (`[digest]`), shortened ones (`[id]`), times (`[time]`), points in time
/// (`[timestamp]`), sizes (`[size]`), ages (`[age]`) and the given paths.
///
/// ```
/// # use std::path::Path;
/// use kiln_testkit::filters::filter;
/// let text = "#3 DONE 0.2s, 1.5 MB in /tmp/.x/a\n";
/// assert_eq!(
///     filter(text, &[(Path::new("/tmp/.x"), "[dir]")]),
///     "#3 DONE [time], [size] in [dir]/a\n"
/// );
/// ```
pub fn filter(text: &str, paths: &[(&Path, &str)]) -> String {
    let mut paths: Vec<(String, &str)> = paths
        .iter()
        .map(|(path, placeholder)| (path.display().to_string(), *placeholder))
        .collect();
    // A path before its parents.
    paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    let mut text = text.to_owned();
    for (path, placeholder) in &paths {
        text = text.replace(path.as_str(), placeholder);
    }
    let mut filtered = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let is_inside = before.is_some_and(|c: char| c.is_ascii_alphanumeric() || c == '.');
        let found = if is_inside { None } else { placeholder(rest) };
        let length = if let Some((length, placeholder)) = found {
            filtered.push_str(placeholder);
            length
        } else {
            filtered.push(next);
            next.len_utf8()
        };
        before = rest[..length].chars().next_back();
        rest = &rest[length..];
    }
    filtered
}

/// Makes columns that are as wide as what was replaced in them stand three spaces apart.
///
/// ```
/// use kiln_testkit::filters::unaligned;
/// assert_eq!(unaligned("    a         [size]   b\n"), "  a   [size]   b\n");
/// ```
pub fn unaligned(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let words = line.trim_start();
        let indentation = line.len() - words.len();
        lines.push_str(&line[..indentation.min(2)]);
        let columns = words.split("   ").map(str::trim).filter(|column| !column.is_empty());
        lines.push_str(&columns.collect::<Vec<_>>().join("   "));
        lines.push('\n');
    }
    lines
}

/// A time, an age, a size or a digest at the start of `text`, and how long it is.
fn placeholder(text: &str) -> Option<(usize, &'static str)> {
    let hex =
        text.find(|c: char| !c.is_ascii_digit() && !('a'..='f').contains(&c)).unwrap_or(text.len());
    let is_end = !text[hex..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
    match hex {
        64 => return Some((hex, "[digest]")),
        12 if is_end => return Some((hex, "[id]")),
        _ => {}
    }
    if let Some(length) = timestamp(text) {
        return Some((length, "[timestamp]"));
    }
    // A digest that was shortened to be shown.
    if let Some(short) = text.strip_prefix("sha256:") {
        let hex = short.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(short.len());
        return (hex >= 6).then_some((hex + "sha256:".len(), "sha256:[digest]"));
    }
    if text.starts_with("just now") {
        return Some(("just now".len(), "[age]"));
    }
    let digits = number(text)?;
    if let Some(age) = age(&text[digits..]) {
        return Some((digits + age, "[age]"));
    }
    let after = &text[digits..];
    let gap = usize::from(after.starts_with(' '));
    let unit = after[gap..].find(|c: char| !c.is_alphabetic()).unwrap_or(after.len() - gap);
    let name = &after[gap..gap + unit];
    let placeholder = match name {
        "ns" | "µs" | "us" | "ms" | "s" => "[time]",
        "B" | "kB" | "KB" | "MB" | "GB" | "KiB" | "MiB" | "GiB" | "bytes" => "[size]",
        "m" | "min" => {
            // `1m 3s` is one time.
            let minutes = digits + gap + unit;
            let seconds = text[minutes..].strip_prefix(' ').unwrap_or(&text[minutes..]);
            let more = placeholder_of_seconds(seconds)?;
            return Some((text.len() - seconds.len() + more, "[time]"));
        }
        _ => return None,
    };
    Some((digits + gap + unit, placeholder))
}

/// The length of `2026-03-01T10:00:00.5Z`.
fn timestamp(text: &str) -> Option<usize> {
    let (date, rest) = text.split_once('T')?;
    let (time, _) = rest.split_once('Z')?;
    let has = |text: &str, sign: char, parts: usize| {
        text.split(sign).filter(|part| number(part) == Some(part.len())).count() == parts
    };
    (date.len() == 10 && has(date, '-', 3) && has(time, ':', 3))
        .then_some(date.len() + time.len() + 2)
}

/// The length of ` minutes ago` and its like.
fn age(text: &str) -> Option<usize> {
    let (unit, rest) = text.strip_prefix(' ')?.split_once(' ')?;
    let units = ["second", "minute", "hour", "day", "week", "month", "year"];
    let is_age = units.contains(&unit.trim_end_matches('s')) && rest.starts_with("ago");
    is_age.then_some(unit.len() + " ".len() + " ago".len())
}

fn placeholder_of_seconds(text: &str) -> Option<usize> {
    let digits = number(text)?;
    let rest = text[digits..].strip_prefix('s')?;
    let is_end = !rest.starts_with(char::is_alphanumeric);
    is_end.then_some(digits + 1)
}

/// The length of a decimal number at the start of `text`.
fn number(text: &str) -> Option<usize> {
    let whole = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if whole == 0 {
        return None;
    }
    let fraction = text[whole..].strip_prefix('.').map_or(0, |fraction| {
        fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len())
    });
    Some(if fraction == 0 { whole } else { whole + 1 + fraction })
}

/// How to run a program for a snapshot.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The program.
    pub binary: &'a Path,
    /// The directory to run it in; shown as `[dir]`.
    pub directory: &'a Path,
    /// The whole environment, besides `PATH`.
    pub environment: &'a [(&'a str, &'a str)],
    /// Further paths to replace.
    pub paths: &'a [(&'a Path, &'a str)],
}

impl Run<'_> {
    /// Runs the program and returns `status: N`, its standard output and its standard error as
    /// one [filtered](filter) text.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn snapshot<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let mut command = Command::new(self.binary);
        command
            .args(arguments)
            .current_dir(self.directory)
            .env_clear()
            .envs(self.environment.iter().copied());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        let status =
            output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        let mut text = format!("status: {status}\n");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            text.extend(["--- ", name, "\n", &String::from_utf8_lossy(bytes)]);
            if !text.ends_with('\n') {
                text.push_str("⏎\n");
            }
        }
        let mut paths = vec![(self.directory, "[dir]")];
        paths.extend(self.paths.iter().copied());
        filter(&text, &paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_replaced_and_nothing_else() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            (format!("sha256:{digest} {digest}x"), "sha256:[digest] [digest]x".to_owned()),
            (format!("x{digest}"), format!("x{digest}")),
            ("sha256:0123ab… sha256:none".to_owned(), "sha256:[digest]… sha256:none".to_owned()),
            (
                "0.1s 12 ms 3m4s 1m 2.5s 5µs".to_owned(),
                "[time] [time] [time] [time] [time]".to_owned(),
            ),
            ("1.5 MB 10kB 3 bytes 2 B".to_owned(), "[size] [size] [size] [size]".to_owned()),
            (
                "python 3.12 step 3 of 6 v1s 2nd 3 steps".to_owned(),
                "python 3.12 step 3 of 6 v1s 2nd 3 steps".to_owned(),
            ),
            ("é 1s.".to_owned(), "é [time].".to_owned()),
            ("0123456789ab 0123456789abc".to_owned(), "[id] 0123456789abc".to_owned()),
            ("at 2026-03-01T10:00:00.5Z".to_owned(), "at [timestamp]".to_owned()),
            ("just now, 1 minute ago, 3 days".to_owned(), "[age], [age], 3 days".to_owned()),
        ] {
            assert_eq!(filter(&text, &[]), expected);
        }
        let paths = [(Path::new("/a"), "[a]"), (Path::new("/a/b"), "[b]")];
        assert_eq!(filter("/a/b/c /a/c", &paths), "[b]/c [a]/c");
    }

    #[test]
    fn a_run_is_shown_whole() {
        let directory = tempfile::tempdir().unwrap();
        let run = Run {
            binary: Path::new("/bin/sh"),
            directory: directory.path(),
            environment: &[("NAME", "value")],
            paths: &[],
        };
        let text = run.snapshot(&["-c", "pwd; printf $NAME; echo 1.5s >&2; exit 3"]);
        assert_eq!(text, "status: 3\n--- stdout\n[dir]\nvalue⏎\n--- stderr\n[time]\n");
    }
}

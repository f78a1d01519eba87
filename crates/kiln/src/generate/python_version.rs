//! Which Python a project gets: `.python-version`, else what `requires-python` allows, else 3.12.

use super::sources::Sources;

/// The version that is taken where nothing speaks against it.
const USUAL: u32 = 12;
/// The oldest and the newest `3.x` that images exist of.
const KNOWN: std::ops::RangeInclusive<u32> = 8..=14;

/// The version as `3.12`, and why.
pub(crate) fn choose(sources: &Sources, requires: Option<&str>) -> (String, String) {
    if let Some(text) = sources.text(".python-version") {
        let word =
            text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let word =
            word.unwrap_or_default().trim_start_matches("cpython-").trim_start_matches("cpython@");
        if let Some(minor) = minor(word).filter(|_| word.starts_with("3.")) {
            return (format!("3.{minor}"), format!(".python-version says {word}"));
        }
    }
    let Some(requires) = requires else {
        return (format!("3.{USUAL}"), "nothing asks for another".to_owned());
    };
    let mut versions: Vec<u32> = KNOWN.filter(|minor| allows(requires, *minor)).collect();
    versions.sort_by_key(|minor| minor.abs_diff(USUAL));
    match versions.first() {
        Some(minor) => (format!("3.{minor}"), format!("requires-python is {requires}")),
        None => (
            format!("3.{USUAL}"),
            format!("requires-python, {requires}, says nothing that kiln understands"),
        ),
    }
}

/// Whether a set of specifiers allows `3.minor` in its last release (PEP 440, and Poetry's `^`, `~`,
/// `||`).
fn allows(specifiers: &str, minor: u32) -> bool {
    specifiers.split("||").any(|all| all.split(',').all(|one| allows_one(one.trim(), minor)))
}

fn allows_one(specifier: &str, wanted: u32) -> bool {
    let digits = specifier.find(|c: char| c.is_ascii_digit()).unwrap_or(specifier.len());
    let (operator, version) = specifier.split_at(digits);
    let parts: Vec<&str> = version.trim().split('.').collect();
    let is_major_only = parts.len() == 1 || parts[1] == "*";
    let minor = minor(version).unwrap_or(0);
    let has_patch = parts.len() > 2 && parts[2] != "*" && parts[2] != "0";
    if parts[0] == "4" {
        return matches!(operator.trim(), "<" | "<=" | "!=");
    }
    match operator.trim() {
        "" | "*" if version.is_empty() => true,
        "~=" if parts.len() > 2 => wanted == minor,
        ">=" | "^" | "~=" => wanted >= minor,
        ">" => wanted > minor || (wanted == minor && has_patch),
        "<" => wanted < minor || (wanted == minor && has_patch),
        "<=" => wanted < minor || (wanted == minor && !is_major_only),
        "!=" => wanted != minor || has_patch,
        "~" | "==" | "===" | "=" | "" => is_major_only || wanted == minor,
        _ => false,
    }
}

fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_decides_then_the_range_then_what_is_usual() {
        let pinned = Sources::of(&[(".python-version", "3.11.9\n")]);
        let (version, why) = choose(&pinned, Some(">=3.12"));
        assert_eq!((version.as_str(), why.as_str()), ("3.11", ".python-version says 3.11.9"));
        let none = Sources::default();
        for (requires, expected) in [
            (">=3.11", "3.12"),
            (">=3.13", "3.13"),
            (">=3.9,<3.12", "3.11"),
            ("^3.10", "3.12"),
            ("~3.10", "3.10"),
            ("~=3.9", "3.12"),
            ("~=3.11.2", "3.11"),
            ("==3.10.*", "3.10"),
            ("3.9", "3.9"),
            (">=3.8, !=3.12.*", "3.11"),
            (">=3.7,<4.0", "3.12"),
            (">=3", "3.12"),
            ("<3.11 || >=3.13", "3.13"),
            (">3.11.2,<=3.11.9", "3.11"),
            ("*", "3.12"),
            ("what?", "3.12"),
        ] {
            assert_eq!(choose(&none, Some(requires)).0, expected, "{requires}");
        }
        assert_eq!(choose(&none, None).0, "3.12");
    }
}

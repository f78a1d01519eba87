//! What differs between two operations, from the parts of their keys.

use std::collections::BTreeMap;

use super::{Cause, SettingChange};
use crate::cache_key::KeyParts;

/// What is known of an operation that its parts do not say.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// Variables of the operation that are build arguments, not of the image.
    pub arguments: &'a [String],
    /// Build arguments of the command line.
    pub given: &'a BTreeMap<String, String>,
}

/// The settings that differ: everything of two operations but their inputs, whose parts are the
/// last `inputs` of each.
pub fn settings(
    (older, older_inputs): (&KeyParts, usize),
    (newer, newer_inputs): (&KeyParts, usize),
    naming: Naming<'_>,
) -> Vec<Cause> {
    let old = by_name(older, older_inputs);
    let new = by_name(newer, newer_inputs);
    let mut found = Vec::new();
    for (name, after) in &new {
        match old.iter().find(|(known, _)| known == name) {
            Some((_, before)) if before == after => {}
            Some((_, before)) => {
                let (before, after) = only_different(before, after);
                found.push(cause(name, (before, after), naming));
            }
            None => found.push(cause(name, (Vec::new(), after.clone()), naming)),
        }
    }
    for (name, before) in &old {
        if !new.iter().any(|(known, _)| known == name) {
            found.push(cause(name, (before.clone(), Vec::new()), naming));
        }
    }
    found
}

/// The values of each name, in order: a command has several mounts, a copy several sources.
fn by_name(parts: &KeyParts, inputs: usize) -> Vec<(&str, Vec<&str>)> {
    let settings = &parts.0[..parts.0.len().saturating_sub(inputs)];
    let mut values: Vec<(&str, Vec<&str>)> = Vec::new();
    for part in settings {
        match values.iter_mut().find(|(name, _)| *name == part.name) {
            Some((_, known)) => known.push(&part.value),
            None => values.push((&part.name, vec![&part.value])),
        }
    }
    values
}

/// Of two lists, what does not stand in the other; all of them if only their order differs.
fn only_different<'a>(before: &[&'a str], after: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let without = |list: &[&'a str], other: &[&'a str]| -> Vec<&'a str> {
        list.iter().filter(|value| !other.contains(value)).copied().collect()
    };
    match (without(before, after), without(after, before)) {
        (gone, new) if gone.is_empty() && new.is_empty() => (before.to_vec(), after.to_vec()),
        different => different,
    }
}

fn cause(name: &str, (before, after): (Vec<&str>, Vec<&str>), naming: Naming<'_>) -> Cause {
    let is_flag = FLAGS.iter().any(|(part, _)| *part == name);
    let unset = |values: &[&str]| values.iter().all(|value| is_flag && value.is_empty());
    let change = match (unset(&before), unset(&after)) {
        (true, false) => SettingChange::Added,
        (false, true) => SettingChange::Removed,
        _ => SettingChange::Changed,
    };
    let part = name;
    let text = |values: &[&str]| match values {
        [value] if shows_values(part) && !unset(&[value]) => value_text(part, value),
        _ => None,
    };
    let name = match after.first().or(before.first()) {
        Some(value) if name == "mount" && before.len().max(after.len()) == 1 => mount(value),
        _ => words(name, naming),
    };
    let (before, after) = (text(&before), text(&after));
    Cause::Setting { name, before, after, change }
}

/// Parts that are flags of an instruction; an empty value is a flag that is not there.
const FLAGS: [(&str, &str); 4] = [
    ("owner", "--chown"),
    ("mode", "--chmod"),
    ("excludes", "--exclude"),
    ("checksum", "--checksum"),
];

/// What a person calls a part of a key.
fn words(name: &str, naming: Naming<'_>) -> String {
    if let Some((_, flag)) = FLAGS.iter().find(|(part, _)| *part == name) {
        return (*flag).to_owned();
    }
    if let Some(variable) = name.strip_prefix("variable ") {
        let is_argument = naming.arguments.iter().any(|known| known == variable);
        return match (is_argument, naming.given.contains_key(variable)) {
            (true, true) => format!("build-arg {variable}"),
            (true, false) => format!("ARG {variable}"),
            (false, _) => format!("ENV {variable}"),
        };
    }
    if let Some(host) = name.strip_prefix("ulimit ") {
        return format!("--ulimit {host}");
    }
    match name {
        "mount" => "mounts".to_owned(),
        "network" | "security" | "link" | "parents" => format!("--{name}"),
        "extra host" => "--add-host".to_owned(),
        "operation" => "kind of instruction".to_owned(),
        "unpack" => "ADD or COPY".to_owned(),
        other => match (other.strip_prefix("script "), other.strip_prefix("file ")) {
            (Some(document), _) | (_, Some(document)) => format!("heredoc {document}"),
            _ => other.to_owned(),
        },
    }
}

/// A mount by its target, which stands last in its part.
fn mount(value: &str) -> String {
    let fields = unframed(value).unwrap_or_default();
    let target =
        fields.last().and_then(|target| target.strip_prefix("Some(\"")?.strip_suffix("\")"));
    target.map_or_else(|| "mounts".to_owned(), |target| format!("mount of {target}"))
}

/// Whether the values of a part may be shown and are worth it: not those of what looks like a
/// secret, nor the contents of heredocs, nor what only kiln can read.
fn shows_values(name: &str) -> bool {
    if let Some(variable) = name.strip_prefix("variable ") {
        return !crate::lint::is_secret_name(variable);
    }
    let is_contents = name.starts_with("script ") || name.starts_with("file ");
    !is_contents && !matches!(name, "mount" | "operation" | "unpack" | "link" | "parents")
}

/// A value as a person would write it; `None` for one that was too long to keep.
fn value_text(name: &str, value: &str) -> Option<String> {
    if value.starts_with("blake3:") {
        return None;
    }
    Some(match name {
        "command" => command_text(&unframed(value)?),
        "excludes" => unframed(value)?.join(" "),
        "source" => value.split_once(' ').map_or(value, |(_, path)| path).to_owned(),
        "owner" | "mode" => value.strip_prefix('=').unwrap_or(value).to_owned(),
        "user" if value.is_empty() => "root".to_owned(),
        _ if value.is_empty() => "\"\"".to_owned(),
        _ => value.to_owned(),
    })
}

/// A command line; that of a shell without the shell.
fn command_text(words: &[String]) -> String {
    match words {
        [_, flag, line] if flag == "-c" => format!("\"{line}\""),
        words => format!("{words:?}"),
    }
}

/// The list that `cache_key` framed as one text.
fn unframed(mut text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    while !text.is_empty() {
        let (length, rest) = text.split_once(':')?;
        let length: usize = length.parse().ok()?;
        items.push(rest.get(..length)?.to_owned());
        text = rest.get(length..)?.strip_prefix(',')?;
    }
    Some(items)
}

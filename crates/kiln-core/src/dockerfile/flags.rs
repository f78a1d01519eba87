//! The flags that each instruction knows, and access to those that were written.
//!
//! Parsing checks names, repetition and form (a switch is true or false, others have a value);
//! what a value means is checked where it is used, after expansion.

use super::instruction::{Flag, Word};
use crate::diagnostic::{Diagnostic, did_you_mean};

/// What follows a flag's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// `--link`, `--link=true`, `--link=false`; once.
    Switch,
    /// `--from=x`; once.
    Text,
    /// `--mount=x`; any number of times.
    Texts,
}

use FlagKind::{Switch, Text, Texts};

/// The flags of an instruction (its name in upper case), by name.
pub fn known_flags(instruction: &str) -> &'static [(&'static str, FlagKind)] {
    match instruction {
        "ADD" => &[
            ("checksum", Text),
            ("chmod", Text),
            ("chown", Text),
            ("exclude", Texts),
            ("keep-git-dir", Switch),
            ("link", Switch),
            ("unpack", Switch),
        ],
        "COPY" => &[
            ("chmod", Text),
            ("chown", Text),
            ("exclude", Texts),
            ("from", Text),
            ("link", Switch),
            ("parents", Switch),
        ],
        "FROM" => &[("platform", Text)],
        "HEALTHCHECK" => &[
            ("interval", Text),
            ("retries", Text),
            ("start-interval", Text),
            ("start-period", Text),
            ("timeout", Text),
        ],
        "RUN" => &[("device", Texts), ("mount", Texts), ("network", Text), ("security", Text)],
        _ => &[],
    }
}

/// Reports flags that `instruction` (upper case) does not know, that stand twice, or that lack a
/// value or have a wrong one.
pub(super) fn check(instruction: &str, flags: &[Flag], diagnostics: &mut Vec<Diagnostic>) {
    let known = known_flags(instruction);
    for (index, flag) in flags.iter().enumerate() {
        let name = &flag.name;
        let Some((_, kind)) = known.iter().find(|(known, _)| known == name) else {
            diagnostics.push(unknown(instruction, flag));
            continue;
        };
        let repeated = flags[..index].iter().any(|earlier| earlier.name == *name);
        let problem = if repeated && *kind != Texts {
            Some(("duplicate-flag", format!("duplicate flag specified: --{name}")))
        } else {
            problem_with_value(flag, *kind).map(|message| ("bad-flag-value", message))
        };
        if let Some((code, message)) = problem {
            diagnostics.push(Diagnostic::error(code, flag.span, message));
        }
    }
}

fn unknown(instruction: &str, flag: &Flag) -> Diagnostic {
    let name = &flag.name;
    let known = known_flags(instruction);
    let error = Diagnostic::error(
        "unknown-flag",
        flag.span,
        format!("unknown flag: --{name} of {instruction}"),
    );
    if let Some(near) = did_you_mean(name, known.iter().map(|(name, _)| *name)) {
        return error.with_help(format!("did you mean `--{near}`?"));
    }
    if known.is_empty() {
        return error.with_help(format!("{instruction} has no flags; `--` ends flags"));
    }
    let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    error.with_help(format!("{instruction} knows {}", names.join(", ")))
}

fn problem_with_value(flag: &Flag, kind: FlagKind) -> Option<String> {
    let name = &flag.name;
    let value = flag.value.as_ref().map(|value| value.text.as_str());
    match (kind, value) {
        (Switch, Some("")) | (Text | Texts, None) => {
            Some(format!("missing a value on flag: --{name}"))
        }
        (Switch, Some(value)) if switch_value(value).is_none() => {
            Some(format!("expecting boolean value for flag --{name}, not: {value}"))
        }
        _ => None,
    }
}

fn switch_value(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The switch `name` among `flags`: `None` if it was not written.
pub fn switch(flags: &[Flag], name: &str) -> Option<bool> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    match &flag.value {
        None => Some(true),
        Some(value) => switch_value(&value.text),
    }
}

/// The unexpanded value of the flag `name`, if it was written.
pub fn text<'a>(flags: &'a [Flag], name: &str) -> Option<&'a Word> {
    flags.iter().find(|flag| flag.name == name)?.value.as_ref()
}

/// All unexpanded values of the flag `name`, in the order written.
pub fn texts<'a>(flags: &'a [Flag], name: &'a str) -> impl Iterator<Item = &'a Word> {
    let flags = flags.iter().filter(move |flag| flag.name == name);
    flags.filter_map(|flag| flag.value.as_ref())
}

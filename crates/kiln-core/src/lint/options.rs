//! `skip=A,B;error=true;experimental=C`: which rules are on.

use std::collections::BTreeSet;

use thiserror::Error;

use super::rules::Rule;

/// A text that chooses no rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// Neither `skip=`, `error=` nor `experimental=`.
    #[error("invalid check option {0:?}: it is skip, error or experimental")]
    Unknown(String),
    /// `error=` with something else than a truth value.
    #[error("invalid check option {0:?}: error is true or false")]
    NotBool(String),
}

/// Some rules, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    all: bool,
    names: BTreeSet<String>,
}

impl Choice {
    fn parse(value: &str) -> Self {
        let value = value.trim();
        if value == "all" {
            return Self { all: true, names: BTreeSet::new() };
        }
        Self { all: false, names: value.split(',').map(|name| name.trim().to_owned()).collect() }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.contains(rule.name)
    }

    fn merge(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }
}

/// Which rules are on, and whether warnings end a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintOptions {
    skip: Choice,
    experimental: Choice,
    /// `error=true`
    pub error: bool,
}

impl LintOptions {
    /// Reads the value of a check directive.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(OptionsError::Unknown(part.to_owned()));
            };
            match key.trim() {
                "skip" => options.skip = Choice::parse(value),
                "experimental" => options.experimental = Choice::parse(value),
                "error" => {
                    options.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(OptionsError::NotBool(part.to_owned())),
                    };
                }
                key => return Err(OptionsError::Unknown(key.to_owned())),
            }
        }
        Ok(options)
    }

    /// What a comment above an instruction says, if it is `check=…`; what follows a blank is a
    /// remark.
    pub fn of_comment(comment: &str) -> Option<Result<Self, OptionsError>> {
        let (key, value) = comment.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case("check") {
            return None;
        }
        let value = value.trim().split(' ').next().unwrap_or("");
        Some(Self::parse(value))
    }

    /// These options with what another one adds; `error` stays as it is here.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.skip.merge(&other.skip);
        merged.experimental.merge(&other.experimental);
        merged
    }

    /// Whether a rule is on. A rule that is experimental is on only when it is asked for, and
    /// `skip` does not turn it off then.
    pub fn is_on(&self, rule: &Rule) -> bool {
        if rule.experimental { self.experimental.has(rule) } else { !self.skip.has(rule) }
    }
}

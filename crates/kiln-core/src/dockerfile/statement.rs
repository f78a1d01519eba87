//! One logical line with its here-documents becomes an instruction.
//!
//! What the line says alone is checked here; what depends on the instructions around it (no
//! stage yet, a name used twice) is not.

use std::ops::Range;

use super::flags;
use super::heredoc::{Announcement, RawHeredoc};
use super::instruction::{
    ArgDeclaration, CommandLine, Copy, CopySource, Healthcheck, InstructionKind, KeyValue, Run,
    Word,
};
use super::json::{self, NotStrings};
use super::lines::LogicalLine;
use super::mount;
use super::split::{Command, blank_separated, quoted_words};
use super::value::{ValueError, parse_interval, parse_retries};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::source::{Span, Spanned};

/// The names of all instructions.
pub(super) const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A cut line, ready to be understood.
pub(super) struct Statement<'a> {
    pub(super) line: &'a LogicalLine,
    pub(super) command: &'a Command,
    pub(super) heredocs: &'a [RawHeredoc],
    pub(super) escape: char,
}

/// Why there is no instruction.
pub(super) type Refusal = Box<Diagnostic>;

impl Statement<'_> {
    /// The instruction's name in upper case.
    pub(super) fn name(&self) -> String {
        self.line.text()[self.command.keyword.clone()].to_ascii_uppercase()
    }

    /// The instruction's name as written.
    pub(super) fn keyword(&self) -> Spanned<String> {
        let word = self.line.word(self.command.keyword.clone());
        Spanned { value: word.text, span: word.span }
    }

    /// The whole logical line.
    pub(super) fn span(&self) -> Span {
        self.line.span(self.command.keyword.start..self.end())
    }

    /// One past its last byte in the logical line.
    pub(super) fn end(&self) -> usize {
        let trimmed = self.line.trimmed();
        trimmed.end.max(self.command.keyword.end)
    }

    fn rest(&self) -> &str {
        &self.line.text()[self.command.rest.clone()]
    }

    /// What the line says, if it is anything but FROM.
    pub(super) fn kind(
        &self,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<InstructionKind, Refusal> {
        let name = self.name();
        let kind = match name.as_str() {
            "ADD" => InstructionKind::Add(self.copy(&name)?),
            "ARG" => InstructionKind::Arg(self.arg()?),
            "CMD" => InstructionKind::Cmd(self.command_line(self.command.rest.clone())?),
            "COPY" => InstructionKind::Copy(self.copy(&name)?),
            "ENTRYPOINT" => {
                InstructionKind::Entrypoint(self.command_line(self.command.rest.clone())?)
            }
            "ENV" => InstructionKind::Env(self.pairs(&name)?),
            "EXPOSE" => InstructionKind::Expose(self.some_words(&name)?),
            "HEALTHCHECK" => InstructionKind::Healthcheck(self.healthcheck(diagnostics)?),
            "LABEL" => InstructionKind::Label(self.pairs(&name)?),
            "MAINTAINER" => InstructionKind::Maintainer(self.one_word(&name)?),
            "ONBUILD" => InstructionKind::Onbuild(self.trigger(diagnostics)?),
            "RUN" => InstructionKind::Run(self.run(diagnostics)?),
            "SHELL" => InstructionKind::Shell(self.shell()?),
            "STOPSIGNAL" => InstructionKind::StopSignal(self.one_word(&name)?),
            "USER" => InstructionKind::User(self.one_word(&name)?),
            "VOLUME" => InstructionKind::Volume(self.volume()?),
            "WORKDIR" => InstructionKind::Workdir(self.one_word(&name)?),
            _ => return Err(Box::new(self.unknown())),
        };
        self.check_flags(&name, diagnostics);
        Ok(kind)
    }

    fn check_flags(&self, name: &str, diagnostics: &mut Vec<Diagnostic>) {
        let none_counts = matches!(name, "ARG" | "STOPSIGNAL")
            || (name == "HEALTHCHECK" && self.rest().eq_ignore_ascii_case("none"));
        if !none_counts {
            flags::check(name, &self.command.flags, diagnostics);
            return;
        }
        diagnostics.extend(self.command.flags.iter().map(|flag| {
            let message = format!("flag --{} of {name} has no effect", flag.name);
            Diagnostic::warning("ignored-flag", flag.span, message)
        }));
    }

    /// A refusal about the whole line.
    pub(super) fn refuse<T>(
        &self,
        code: &'static str,
        message: impl Into<String>,
    ) -> Result<T, Refusal> {
        Err(Box::new(Diagnostic::error(code, self.span(), message)))
    }

    fn unknown(&self) -> Diagnostic {
        let keyword = self.keyword();
        let message = match keyword.value.as_str() {
            "" => "unknown instruction: a continuation without a line".to_owned(),
            name => format!("unknown instruction: {name}"),
        };
        let error = Diagnostic::error("unknown-instruction", keyword.span, message);
        let odd = keyword.value.chars().find(|c| c.is_whitespace());
        if let Some(odd) = odd {
            let code = odd as u32;
            error.with_help(format!("there is a blank U+{code:04X} that is no ordinary space"))
        } else if let Some(near) = did_you_mean(&keyword.value, INSTRUCTIONS) {
            error.with_help(format!("did you mean `{near}`?"))
        } else {
            error
        }
    }

    /// The strings of a range that is a JSON array; `None` if it is none.
    fn strings(&self, range: Range<usize>) -> Result<Option<Vec<Word>>, Refusal> {
        match json::string_array(&self.line.text()[range.clone()]) {
            Ok(strings) => Ok(Some(
                strings
                    .into_iter()
                    .map(|(text, at)| Word {
                        text,
                        span: self.line.span(range.start + at.start..range.start + at.end),
                    })
                    .collect(),
            )),
            Err(NotStrings::NotAnArray) => Ok(None),
            Err(NotStrings::OtherElement(at)) => {
                let span = self.line.span(range.start + at.start..range.start + at.end);
                let message =
                    "when using JSON array syntax, arrays must be comprised of strings only";
                let error = Diagnostic::error("json-not-strings", span, message);
                Err(Box::new(error.with_help("put every element in double quotes")))
            }
        }
    }

    /// The JSON array or the words of the rest, and whether it was JSON.
    fn list(&self) -> Result<(Vec<Word>, bool), Refusal> {
        let rest = self.command.rest.clone();
        if let Some(strings) = self.strings(rest.clone())? {
            return Ok((strings, true));
        }
        let words = blank_separated(self.line, rest);
        Ok((words.into_iter().map(|range| self.line.word(range)).collect(), false))
    }

    fn command_line(&self, range: Range<usize>) -> Result<CommandLine, Refusal> {
        let span = self.line.span(range.clone());
        Ok(match self.strings(range.clone())? {
            Some(strings) => CommandLine::Exec {
                args: strings.into_iter().map(|word| word.text).collect(),
                span,
            },
            None => CommandLine::Shell {
                text: self.line.text()[range].to_owned(),
                heredocs: self
                    .heredocs
                    .iter()
                    .map(|heredoc| heredoc.announcement.with_body(&heredoc.body))
                    .collect(),
                span,
            },
        })
    }

    fn one_word(&self, name: &str) -> Result<Word, Refusal> {
        if self.command.rest.is_empty() {
            return self
                .refuse("missing-argument", format!("{name} requires exactly one argument"));
        }
        Ok(self.line.word(self.command.rest.clone()))
    }

    /// A refusal of a line without arguments.
    pub(super) fn at_least_one<T>(&self, name: &str) -> Result<T, Refusal> {
        self.refuse("missing-argument", format!("{name} requires at least one argument"))
    }

    fn some_words(&self, name: &str) -> Result<Vec<Word>, Refusal> {
        let words = blank_separated(self.line, self.command.rest.clone());
        if words.is_empty() {
            return self.at_least_one(name);
        }
        Ok(words.into_iter().map(|range| self.line.word(range)).collect())
    }

    fn volume(&self) -> Result<Vec<Word>, Refusal> {
        let (mut words, _) = self.list()?;
        if words.is_empty() {
            return self.at_least_one("VOLUME");
        }
        for word in &mut words {
            word.text = word.text.trim().to_owned();
            if word.text.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(Box::new(Diagnostic::error("empty-volume", word.span, message)));
            }
        }
        Ok(words)
    }

    fn shell(&self) -> Result<Vec<String>, Refusal> {
        if self.command.rest.is_empty() {
            return self.at_least_one("SHELL");
        }
        let Some(strings) = self.strings(self.command.rest.clone())? else {
            let words: Vec<&str> = self.rest().split_whitespace().collect();
            let example = serde_json::to_string(&words).unwrap_or_default();
            let error = Diagnostic::error(
                "shell-not-json",
                self.span(),
                "SHELL requires the arguments to be in JSON form",
            );
            return Err(Box::new(error.with_help(format!("write `SHELL {example}`"))));
        };
        if strings.is_empty() {
            return self.at_least_one("SHELL");
        }
        Ok(strings.into_iter().map(|word| word.text).collect())
    }

    fn arg(&self) -> Result<Vec<ArgDeclaration>, Refusal> {
        let words = quoted_words(self.line, self.command.rest.clone(), self.escape);
        if words.is_empty() {
            return self.at_least_one("ARG");
        }
        let declarations = words.into_iter().map(|range| match self.equals_sign(&range) {
            None => Ok(ArgDeclaration { name: self.line.word(range), default: None }),
            Some(at) if at == range.start => self.blank_name("ARG", range),
            Some(at) => Ok(ArgDeclaration {
                name: self.line.word(range.start..at),
                default: Some(self.line.word(at + 1..range.end)),
            }),
        });
        declarations.collect()
    }

    fn blank_name<T>(&self, name: &str, range: Range<usize>) -> Result<T, Refusal> {
        let message = format!("{name} names can not be blank");
        Err(Box::new(Diagnostic::error("blank-name", self.line.span(range), message)))
    }

    fn equals_sign(&self, range: &Range<usize>) -> Option<usize> {
        let at = self.line.text()[range.clone()].find('=')?;
        Some(range.start + at)
    }

    /// The pairs of ENV and LABEL.
    fn pairs(&self, name: &str) -> Result<Vec<KeyValue>, Refusal> {
        let words = quoted_words(self.line, self.command.rest.clone(), self.escape);
        let Some(first) = words.first() else {
            return self.at_least_one(name);
        };
        if self.equals_sign(first).is_none() {
            return self.legacy_pair(name).map(|pair| vec![pair]);
        }
        let mut signs = Vec::new();
        for range in words {
            let Some(at) = self.equals_sign(&range) else {
                let word = self.line.word(range);
                let message = format!(
                    "syntax error - can't find = in {:?}. Must be of the form: name=value",
                    word.text
                );
                let error = Diagnostic::error("missing-value", word.span, message);
                return Err(Box::new(error.with_help("quote values that hold blanks")));
            };
            signs.push((at, range));
        }
        let pairs = signs.into_iter().map(|(at, range)| {
            if at == range.start {
                return self.blank_name(name, range);
            }
            Ok(KeyValue {
                key: self.line.word(range.start..at),
                value: self.line.word(at + 1..range.end),
                legacy: false,
            })
        });
        pairs.collect()
    }

    /// `ENV key the rest of the line`
    fn legacy_pair(&self, name: &str) -> Result<KeyValue, Refusal> {
        let rest = self.command.rest.clone();
        let text = self.rest();
        let blank = text.find(super::split::BLANKS);
        let Some(at) = blank.map(|at| rest.start + at) else {
            return self.refuse("missing-value", format!("{name} must have two arguments"));
        };
        let value = &self.line.text()[at..rest.end];
        let value_start = rest.end - value.trim_start_matches(super::split::BLANKS).len();
        Ok(KeyValue {
            key: self.line.word(rest.start..at),
            value: self.line.word(value_start..rest.end),
            legacy: true,
        })
    }

    fn copy(&self, name: &str) -> Result<Copy, Refusal> {
        let (mut words, json) = self.list()?;
        let destination = words.pop();
        let Some(destination) = destination.filter(|_| !words.is_empty()) else {
            return self.refuse(
                "missing-destination",
                format!(
                    "{name} requires at least two arguments, but only one was provided. \
                     Destination could not be determined"
                ),
            );
        };
        if announcement(&destination.text).is_some() {
            let message = format!("{name} cannot accept a heredoc as a destination");
            let error = Diagnostic::error("heredoc-destination", destination.span, message);
            return Err(Box::new(error));
        }
        Ok(Copy {
            flags: self.command.flags.clone(),
            sources: words.into_iter().map(|word| self.source(word)).collect(),
            destination,
            json,
        })
    }

    /// A source: of bodies with the same delimiter the last one counts for all.
    fn source(&self, word: Word) -> CopySource {
        let Some(announcement) = announcement(&word.text) else {
            return CopySource::Path(word);
        };
        let mut bodies = self.heredocs.iter().rev();
        let body = bodies.find(|heredoc| heredoc.announcement.name == announcement.name);
        let body = body.map_or("", |heredoc| heredoc.body.as_str());
        CopySource::Heredoc(announcement.with_body(body), word.span)
    }

    fn run(&self, diagnostics: &mut Vec<Diagnostic>) -> Result<Run, Refusal> {
        let command = self.command_line(self.command.rest.clone())?;
        let flags = self.command.flags.clone();
        for flag in &flags {
            let Some(value) = &flag.value else { continue };
            let problem = match flag.name.as_str() {
                "mount" => mount::check_raw(&value.text).err(),
                "network" => one_of(&value.text, &["default", "none", "host"], "network mode"),
                "security" => one_of(&value.text, &["sandbox", "insecure"], "security"),
                _ => None,
            };
            diagnostics.extend(problem.map(|error| flag_error(error, value)));
        }
        Ok(Run { flags, command })
    }

    fn healthcheck(&self, diagnostics: &mut Vec<Diagnostic>) -> Result<Healthcheck, Refusal> {
        let rest = self.command.rest.clone();
        if rest.is_empty() {
            return self.at_least_one("HEALTHCHECK");
        }
        let text = self.rest();
        let word_end = text.find(super::split::BLANKS).unwrap_or(text.len());
        let kind = &text[..word_end];
        let blanks = text[word_end..].len()
            - text[word_end..].trim_start_matches(super::split::BLANKS).len();
        let argument = rest.start + word_end + blanks..rest.end;
        if kind.eq_ignore_ascii_case("none") {
            let nothing = ["", "[]"].contains(&&self.line.text()[argument]);
            if !nothing {
                return self.refuse("excess-argument", "HEALTHCHECK NONE takes no arguments");
            }
            return Ok(Healthcheck::None);
        }
        if !kind.eq_ignore_ascii_case("cmd") {
            let span = self.line.span(rest.start..rest.start + word_end);
            let message = format!("unknown type {kind:?} in HEALTHCHECK (try CMD)");
            return Err(Box::new(Diagnostic::error("healthcheck-type", span, message)));
        }
        let command = self.command_line(argument)?;
        let empty = match &command {
            CommandLine::Shell { text, .. } => text.is_empty(),
            CommandLine::Exec { args, .. } => args.is_empty(),
        };
        if empty {
            return self.refuse("missing-argument", "missing command after HEALTHCHECK CMD");
        }
        let flags = self.command.flags.clone();
        for flag in &flags {
            let Some(value) = &flag.value else { continue };
            let problem = match flag.name.as_str() {
                "retries" => parse_retries(&value.text).err(),
                name => parse_interval(name, &value.text).err(),
            };
            let known = flags::known_flags("HEALTHCHECK");
            if known.iter().any(|(name, _)| *name == flag.name) {
                diagnostics.extend(problem.map(|error| flag_error(error, value)));
            }
        }
        Ok(Healthcheck::Cmd { flags, command })
    }
}

/// The here-document that a word of COPY is; a word that cannot be read is a path.
fn announcement(word: &str) -> Option<Announcement> {
    Announcement::parse(word).ok().flatten()
}

fn one_of(value: &str, known: &[&str], what: &str) -> Option<ValueError> {
    if known.contains(&value) {
        return None;
    }
    let known_values = known.join(", ");
    let message = match what {
        "security" => format!("security {value:?} is not valid: expected {known_values}"),
        what => format!("invalid {what} {value:?}: expected {known_values}"),
    };
    Some(ValueError::new(message).suggest(did_you_mean(value, known.iter().copied())))
}

fn flag_error(error: ValueError, value: &Word) -> Diagnostic {
    let diagnostic = Diagnostic::error("bad-flag-value", value.span, error.message);
    match error.help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

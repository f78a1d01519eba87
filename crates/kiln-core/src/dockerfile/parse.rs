//! The parser: lines in, stages and diagnostics out.
//!
//! A line that cannot be understood is reported and left out; reading goes on with the next one,
//! so one run shows all that is wrong.

use super::directive::DirectiveReader;
use super::heredoc::{self, RawHeredoc};
use super::instruction::{Dockerfile, Instruction, Stage};
use super::json::{self, NotStrings};
use super::lines::{Lines, LogicalLine};
use super::split::Command;
use super::statement::Statement;
use super::unreadable;
use crate::diagnostic::Diagnostic;
use crate::source::{SourceFile, Span};

/// Parses a Dockerfile. Total: what is wrong is in the diagnostics, in the order of the text.
pub fn parse(source: &SourceFile) -> (Dockerfile, Vec<Diagnostic>) {
    let mut parser = Parser::default();
    parser.read(source.text());
    let directives = parser.directives.finish(source.text());
    let dockerfile =
        Dockerfile { directives, global_args: parser.global_args, stages: parser.stages };
    let mut diagnostics = parser.diagnostics;
    unreadable::check_lines(source, &mut diagnostics);
    unreadable::check_encoding(source, &dockerfile, &mut diagnostics);
    if !parser.any_instruction {
        let message = if source.text().is_empty() {
            "the Dockerfile cannot be empty"
        } else {
            "file with no instructions"
        };
        let error = Diagnostic::error("no-instructions", Span::default(), message);
        diagnostics.push(error.with_help("a Dockerfile begins with `FROM IMAGE`"));
    } else if dockerfile.stages.is_empty() && !diagnostics.iter().any(Diagnostic::is_error) {
        let error = Diagnostic::error(
            "no-stages",
            Span::default(),
            "dockerfile contains no stages to build",
        );
        diagnostics.push(error.with_help("add `FROM IMAGE`"));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map(|span| span.start));
    (dockerfile, diagnostics)
}

/// Parses an ONBUILD trigger from a base image's config; spans are relative to `text`.
///
/// The error is the first thing that is wrong, also when `text` is not exactly one instruction
/// or one that ONBUILD does not allow.
pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction, Diagnostic> {
    let whole = Span::new(0, text.len());
    let single = || {
        Diagnostic::error(
            "onbuild-trigger",
            whole,
            "an ONBUILD trigger should be a single instruction",
        )
    };
    let mut diagnostics = Vec::new();
    let mut lines = Lines::new(text);
    let mut found = None;
    while let Some(read) = read_statement(&mut lines, escape, &mut diagnostics) {
        if found.is_some() {
            return Err(single());
        }
        let name = read.statement().name();
        if matches!(name.trim(), "FROM" | "MAINTAINER" | "ONBUILD") {
            let message = format!("{name} isn't allowed as an ONBUILD trigger");
            return Err(Diagnostic::error("onbuild-trigger", whole, message));
        }
        found = read.instruction(&mut diagnostics);
        if let Some(error) = diagnostics.iter().find(|found| found.is_error()) {
            return Err(error.clone());
        }
    }
    found.ok_or_else(single)
}

#[derive(Default)]
struct Parser {
    directives: DirectiveReader,
    global_args: Vec<Instruction>,
    stages: Vec<Stage>,
    diagnostics: Vec<Diagnostic>,
    any_instruction: bool,
    reported_missing_stage: bool,
}

impl Parser {
    fn read(&mut self, text: &str) {
        let mut lines = Lines::new(text);
        for line in Lines::new(text) {
            if !self.directives.read(line, &mut self.diagnostics) {
                break;
            }
        }
        let escape = self.directives.escape();
        while let Some(read) = read_statement(&mut lines, escape, &mut self.diagnostics) {
            self.any_instruction = true;
            self.add(&read);
        }
    }

    fn add(&mut self, read: &Read) {
        let statement = read.statement();
        if statement.name() == "FROM" {
            let mut from = statement.from(&mut self.diagnostics);
            from.span = read.span();
            self.stages.push(Stage { from, instructions: Vec::new() });
            return;
        }
        let Some(instruction) = read.instruction(&mut self.diagnostics) else {
            return;
        };
        if let Some(stage) = self.stages.last_mut() {
            stage.instructions.push(instruction);
        } else if statement.name() == "ARG" {
            self.global_args.push(instruction);
        } else if !std::mem::replace(&mut self.reported_missing_stage, true) {
            let message = format!(
                "no build stage in current context: {} stands before the first FROM",
                statement.name()
            );
            let error = Diagnostic::error("no-stage", instruction.keyword.span, message);
            let help = "only ARG may stand before the first FROM";
            self.diagnostics.push(error.with_help(help));
        }
    }
}

/// A statement as it was read from the text.
struct Read {
    line: LogicalLine,
    command: Command,
    heredocs: Vec<RawHeredoc>,
    /// One past the last body's delimiter, if there are bodies.
    end: Option<usize>,
    escape: char,
}

impl Read {
    fn statement(&self) -> Statement<'_> {
        Statement {
            line: &self.line,
            command: &self.command,
            heredocs: &self.heredocs,
            escape: self.escape,
        }
    }

    /// The whole instruction, bodies included.
    fn span(&self) -> Span {
        let span = self.statement().span();
        match self.end {
            Some(end) => span.to(Span::new(end, end)),
            None => span,
        }
    }

    fn instruction(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Instruction> {
        let statement = self.statement();
        match statement.kind(diagnostics) {
            Ok(kind) => Some(Instruction {
                span: self.span(),
                keyword: statement.keyword(),
                text: self.line.text()[self.line.trimmed()].to_owned(),
                kind,
            }),
            Err(refusal) => {
                diagnostics.push(*refusal);
                None
            }
        }
    }
}

/// The next line that is neither blank nor a comment, with what belongs to it.
fn read_statement(
    lines: &mut Lines<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Read> {
    let first = lines.find(|line| !line.is_comment() && !line.content().trim_start().is_empty())?;
    let line = LogicalLine::read(first, lines, escape);
    let command = Command::new(&line, 0..line.text().len(), escape);
    let mut read = Read { line, command, heredocs: Vec::new(), end: None, escape };
    if let Some(blank) = read.line.blank {
        let text = &read.line.text()[read.line.trimmed()];
        // From the first empty line to the line where the instruction ends.
        let end = lines.content_end().max(blank.end as usize);
        diagnostics.push(Diagnostic::warning(
            "NoEmptyContinuation",
            blank.to(Span::new(end, end)),
            format!("empty continuation line found in: {text}"),
        ));
    }
    if may_have_heredocs(&read) {
        read_heredocs(&mut read, lines, diagnostics);
    }
    Some(read)
}

/// Whether the instruction, or the one behind its ONBUILD, takes here-documents.
fn may_have_heredocs(read: &Read) -> bool {
    let mut statement = read.statement();
    let trigger;
    if statement.name() == "ONBUILD" {
        trigger = Command::new(&read.line, read.command.rest.clone(), read.escape);
        statement.command = &trigger;
    }
    let rest = &read.line.text()[statement.command.rest.clone()];
    matches!(statement.name().as_str(), "RUN" | "COPY" | "ADD")
        && json::string_array(rest) == Err(NotStrings::NotAnArray)
}

fn read_heredocs(read: &mut Read, lines: &mut Lines<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let span = read.span();
    let announced = match heredoc::announced(read.line.text()) {
        Ok(announced) => announced,
        Err(error) => {
            diagnostics.push(Diagnostic::error("heredoc", span, error.to_string()));
            return;
        }
    };
    for announcement in announced {
        let name = announcement.name.clone();
        let body = heredoc::read_body(&announcement, lines);
        if body.is_err() {
            let message = format!("unterminated heredoc: no line is {name:?} alone");
            let place = announced_at(&read.line, &name).unwrap_or(span);
            diagnostics.push(Diagnostic::error("unterminated-heredoc", place, message));
        }
        let (Ok(body) | Err(body)) = body;
        read.heredocs.push(RawHeredoc { announcement, body });
        read.end = Some(lines.content_end());
    }
}

/// The `<<NAME` of a line, if it is written plainly.
fn announced_at(line: &LogicalLine, name: &str) -> Option<Span> {
    let text = line.text();
    let found = text.match_indices("<<").find_map(|(start, _)| {
        let after = text[start + 2..].trim_start_matches(['-', ' ', '"', '\'']);
        after.starts_with(name).then(|| start..text.len() - after.len() + name.len())
    });
    found.map(|range| line.span(range))
}

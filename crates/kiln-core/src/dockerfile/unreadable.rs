//! What is no text: bytes that are not UTF-8, and lines without an end.
//!
//! BuildKit takes bytes: in comments they do not matter, in most words and in the image config
//! they become U+FFFD, and a RUN that holds one fails. Here they are U+FFFD from the start, so a
//! body that BuildKit copies byte by byte (`COPY <<"EOF"`) is refused, too.

use super::instruction::{CommandLine, CopySource, Dockerfile, Instruction, InstructionKind};
use crate::diagnostic::Diagnostic;
use crate::source::{SourceFile, Span};

/// The most bytes that a line may have, its line feed not counted.
const LINE_LIMIT: usize = 65_535;

/// Reports lines that are longer than BuildKit reads.
pub(super) fn check_lines(source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) {
    let mut start = 0;
    for line in source.text().split('\n') {
        if line.len() > LINE_LIMIT {
            let message = format!(
                "dockerfile line greater than max allowed size of {LINE_LIMIT}: it has {} bytes",
                line.len()
            );
            let error = Diagnostic::error("long-line", Span::new(start, start), message);
            diagnostics.push(error.with_help("put long texts into a file and COPY it"));
        }
        start += line.len() + 1;
    }
}

/// Reports instructions with bytes that were not UTF-8.
pub(super) fn check_encoding(
    source: &SourceFile,
    dockerfile: &Dockerfile,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if source.replaced().is_empty() {
        return;
    }
    for instruction in &dockerfile.global_args {
        check(source, instruction, diagnostics);
    }
    for stage in &dockerfile.stages {
        if stage.from.text.contains(char::REPLACEMENT_CHARACTER) {
            diagnostics.extend(replaced_in(source, stage.from.span).map(warning));
        }
        stage.instructions.iter().for_each(|it| check(source, it, diagnostics));
    }
}

fn check(source: &SourceFile, instruction: &Instruction, diagnostics: &mut Vec<Diagnostic>) {
    let Some(place) = replaced_in(source, instruction.span) else {
        return;
    };
    let has = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    let (in_bodies, exact) = match &instruction.kind {
        InstructionKind::Run(run) => match &run.command {
            CommandLine::Shell { heredocs, .. } => (heredocs.iter().any(|it| has(&it.body)), true),
            CommandLine::Exec { .. } => (false, true),
        },
        InstructionKind::Copy(copy) | InstructionKind::Add(copy) => {
            let found = copy.sources.iter().filter_map(|source| match source {
                CopySource::Heredoc(body, _) if has(&body.body) => Some(!body.expand),
                _ => None,
            });
            let found: Vec<bool> = found.collect();
            (!found.is_empty(), found.contains(&true))
        }
        _ => (false, false),
    };
    if !in_bodies && !has(&instruction.text) {
        return;
    }
    if !exact {
        diagnostics.push(warning(place));
        return;
    }
    let error = Diagnostic::error(
        "encoding",
        place,
        "this line is not UTF-8: it contains invalid UTF-8 where the exact bytes count",
    );
    diagnostics.push(error.with_help("save the file as UTF-8, or write the bytes with `printf`"));
}

/// The first place within a span where bytes were replaced.
fn replaced_in(source: &SourceFile, span: Span) -> Option<Span> {
    let replaced = source.replaced();
    let first = replaced.partition_point(|offset| *offset < span.start);
    let offset = *replaced.get(first)?;
    (offset < span.end).then(|| Span {
        start: offset,
        end: offset + char::REPLACEMENT_CHARACTER.len_utf8() as u32,
    })
}

fn warning(place: Span) -> Diagnostic {
    let message = "this line is not UTF-8: U+FFFD stands for what is none";
    Diagnostic::warning("encoding", place, message).with_help("save the file as UTF-8")
}

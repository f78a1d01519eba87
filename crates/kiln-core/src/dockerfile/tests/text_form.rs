//! A parsed Dockerfile as compact text: one instruction a line, every raw word quoted.

use std::fmt::{Debug, Write};

use crate::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::{
    ArgDeclaration, CommandLine, Copy, CopySource, Dockerfile, Flag, Healthcheck, Heredoc,
    Instruction, InstructionKind, KeyValue, Stage, Word,
};
use crate::source::SourceFile;

pub(super) fn dockerfile(file: &Dockerfile) -> String {
    let mut out = String::new();
    let directives = &file.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{name} = {:?}", value.value);
        }
    }
    if directives.escape != '\\' {
        let _ = writeln!(out, "escape = {}", directives.escape);
    }
    for instruction in &file.global_args {
        let _ = writeln!(out, "{}", line(instruction));
    }
    for stage in &file.stages {
        from(stage, &mut out);
        for instruction in &stage.instructions {
            let _ = writeln!(out, "  {}", line(instruction));
        }
    }
    out
}

pub(super) fn diagnostic(diagnostic: &Diagnostic, source: &SourceFile) -> String {
    let severity = match diagnostic.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let span = diagnostic.span.unwrap_or_default();
    let at = source.position(span.start);
    let mut out = format!(
        "{severity}[{}] {}:{} {:?}: {}\n",
        diagnostic.code,
        at.line,
        at.column,
        source.slice(span),
        diagnostic.message
    );
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

fn from(stage: &Stage, out: &mut String) {
    let from = &stage.from;
    let _ = write!(out, "FROM");
    if let Some(platform) = &from.platform {
        let _ = write!(out, " --platform={:?}", platform.text);
    }
    let _ = write!(out, " {:?}", from.image.text);
    if let Some(name) = &from.name {
        let _ = write!(out, " AS {:?}", name.value);
    }
    out.push('\n');
}

/// One instruction.
pub(super) fn line(instruction: &Instruction) -> String {
    use InstructionKind as Kind;
    match &instruction.kind {
        Kind::Add(it) => format!("ADD{}", copy(it)),
        Kind::Arg(it) => format!("ARG{}", join(it, declaration)),
        Kind::Cmd(it) => format!("CMD {}", command(it)),
        Kind::Copy(it) => format!("COPY{}", copy(it)),
        Kind::Entrypoint(it) => format!("ENTRYPOINT {}", command(it)),
        Kind::Env(it) => format!("ENV{}", join(it, pair)),
        Kind::Expose(it) => format!("EXPOSE{}", join(it, word)),
        Kind::Healthcheck(Healthcheck::None) => "HEALTHCHECK NONE".to_owned(),
        Kind::Healthcheck(Healthcheck::Cmd { flags, command: it }) => {
            format!("HEALTHCHECK{} CMD {}", join(flags, flag), command(it))
        }
        Kind::Label(it) => format!("LABEL{}", join(it, pair)),
        Kind::Maintainer(it) => format!("MAINTAINER {}", word(it)),
        Kind::Onbuild(it) => format!("ONBUILD {}", word(it)),
        Kind::Run(it) => format!("RUN{} {}", join(&it.flags, flag), command(&it.command)),
        Kind::Shell(it) => format!("SHELL {it:?}"),
        Kind::StopSignal(it) => format!("STOPSIGNAL {}", word(it)),
        Kind::User(it) => format!("USER {}", word(it)),
        Kind::Volume(it) => format!("VOLUME{}", join(it, word)),
        Kind::Workdir(it) => format!("WORKDIR {}", word(it)),
    }
}

fn join<T: Debug>(items: &[T], form: fn(&T) -> String) -> String {
    let items = items.iter().map(|item| format!(" {}", form(item)));
    items.collect()
}

fn word(word: &Word) -> String {
    format!("{:?}", word.text)
}

fn declaration(it: &ArgDeclaration) -> String {
    match &it.default {
        Some(default) => format!("{}={}", word(&it.name), word(default)),
        None => word(&it.name),
    }
}

fn pair(it: &KeyValue) -> String {
    let sign = if it.legacy { " " } else { "=" };
    format!("{}{sign}{}", word(&it.key), word(&it.value))
}

fn flag(it: &Flag) -> String {
    match &it.value {
        Some(value) => format!("--{}={}", it.name, word(value)),
        None => format!("--{}", it.name),
    }
}

fn command(it: &CommandLine) -> String {
    match it {
        CommandLine::Shell { text, heredocs, .. } => {
            format!("shell {text:?}{}", join(heredocs, heredoc))
        }
        CommandLine::Exec { args, .. } => format!("exec {args:?}"),
    }
}

fn heredoc(it: &Heredoc) -> String {
    let expand = if it.expand { "" } else { " literal" };
    let chomp = if it.chomp { " chomp" } else { "" };
    let fd = if it.fd == 0 { String::new() } else { format!(" fd {}", it.fd) };
    format!("<{:?}{expand}{chomp}{fd}: {:?}>", it.name, it.body)
}

fn copy(it: &Copy) -> String {
    let mut out = join(&it.flags, flag);
    if it.json {
        out.push_str(" json");
    }
    for source in &it.sources {
        let _ = match source {
            CopySource::Path(path) => write!(out, " {}", word(path)),
            CopySource::Heredoc(body, _) => write!(out, " {}", heredoc(body)),
        };
    }
    let _ = write!(out, " -> {}", word(&it.destination));
    out
}

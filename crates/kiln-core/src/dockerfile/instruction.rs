//! What a Dockerfile says, as written: words keep their quotes and variables.
//!
//! Nothing is expanded, resolved or checked against other instructions here; that is the
//! planner's and the linter's work. Every word has its span.
//!
//! Source: the Dockerfile reference (docker/dockerfile 1.20).

use crate::source::{Span, Spanned};

/// A parsed Dockerfile. Parsing never fails: what could not be understood is in the
/// diagnostics beside it.
#[derive(Clone, Debug, Default)]
pub struct Dockerfile {
    /// `# syntax=`, `# escape=`, `# check=` at the top.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// Parser directives.
#[derive(Clone, Debug)]
pub struct Directives {
    /// `# syntax=…`
    pub syntax: Option<Spanned<String>>,
    /// `# escape=…`: a backslash unless it says a backtick.
    pub escape: char,
    /// `# check=…`
    pub check: Option<Spanned<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// `FROM` and what follows up to the next one.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The `FROM` line.
    pub from: From,
    /// The instructions after it, in order.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Clone, Debug)]
pub struct From {
    /// The whole instruction.
    pub span: Span,
    /// The instruction's name as written (`FROM`, `from`).
    pub keyword: Spanned<String>,
    /// The logical line as written, continuations joined.
    pub text: String,
    /// `--platform=`, unexpanded.
    pub platform: Option<Word>,
    /// Image, stage or named context, unexpanded.
    pub image: Word,
    /// `AS`, as written, for lints.
    pub as_keyword: Option<Spanned<String>>,
    /// The stage's name as written; names compare without case.
    pub name: Option<Spanned<String>>,
}

/// One instruction of a stage.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// From the first byte of its name to its last byte, heredocs included.
    pub span: Span,
    /// Its name as written.
    pub keyword: Spanned<String>,
    /// The logical line as written: continuations joined as BuildKit joins them, comment lines
    /// dropped, without heredoc bodies. Progress and history are made of it.
    pub text: String,
    /// What it says.
    pub kind: InstructionKind,
}

/// A word before expansion: quotes, escapes and `$` still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Raw text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A key and a value before expansion (ENV, LABEL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Left of `=`.
    pub key: Word,
    /// Right of `=`.
    pub value: Word,
    /// `ENV key value` without `=`.
    pub legacy: bool,
}

/// The instructions.
#[derive(Clone, Debug)]
pub enum InstructionKind {
    /// `ADD [flags] SRC… DEST`
    Add(Copy),
    /// `ARG NAME[=DEFAULT]…`
    Arg(Vec<ArgDeclaration>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY [flags] SRC… DEST`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV KEY=VALUE…`
    Env(Vec<KeyValue>),
    /// `EXPOSE PORT[/PROTO]…`
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL KEY=VALUE…`
    Label(Vec<KeyValue>),
    /// `MAINTAINER NAME`
    Maintainer(Word),
    /// `ONBUILD INSTRUCTION`: the trigger as written, unparsed; [`super::parse_trigger`] parses it.
    Onbuild(Word),
    /// `RUN [flags] COMMAND`
    Run(Run),
    /// `SHELL ["…"]`
    Shell(Vec<String>),
    /// `STOPSIGNAL SIGNAL`
    StopSignal(Word),
    /// `USER NAME[:GROUP]`
    User(Word),
    /// `VOLUME PATH…`
    Volume(Vec<Word>),
    /// `WORKDIR PATH`
    Workdir(Word),
}

/// One declaration of an `ARG` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Word,
    /// The default, unexpanded.
    pub default: Option<Word>,
}

/// The command of RUN, CMD, ENTRYPOINT or a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell; for RUN it may have heredocs (the text holds their `<<EOF`).
    Shell {
        /// The logical line.
        text: String,
        /// Bodies in order.
        heredocs: Vec<Heredoc>,
        /// Where the command stands.
        span: Span,
    },
    /// `["executable", "argument"]`; never empty for RUN.
    Exec {
        /// The words of the JSON array.
        args: Vec<String>,
        /// Where the array stands.
        span: Span,
    },
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// Unquoted delimiter: variables in the body are expanded (COPY, ADD).
    pub expand: bool,
    /// `<<-`: leading tabs were written to be stripped (already done in `body`).
    pub chomp: bool,
    /// The body, each line with its line end.
    pub body: String,
    /// The body with the tabs that `chomp` takes away: what a shell is given.
    pub written: String,
    /// The file descriptor before `<<`, 0 if none.
    pub fd: u32,
}

/// COPY and ADD.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Flags in the order written.
    pub flags: Vec<Flag>,
    /// Sources as written; a heredoc source is its `<<EOF` word, and its body is in `heredocs`.
    pub sources: Vec<CopySource>,
    /// The last word.
    pub destination: Word,
    /// Written as a JSON array.
    pub json: bool,
}

/// A source of COPY or ADD.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// A path, a URL or a git reference, unexpanded.
    Path(Word),
    /// An inline file named by its delimiter.
    Heredoc(Heredoc, Span),
}

/// RUN.
#[derive(Clone, Debug)]
pub struct Run {
    /// Flags in the order written (`--mount`, `--network`, `--security`, `--device`).
    pub flags: Vec<Flag>,
    /// What runs.
    pub command: CommandLine,
}

/// `--name[=value]` of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without the dashes.
    pub name: String,
    /// Unexpanded value, if there was a `=`.
    pub value: Option<Word>,
    /// The whole flag.
    pub span: Span,
}

/// HEALTHCHECK.
#[derive(Clone, Debug)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD …`
    Cmd {
        /// `--interval`, `--timeout`, `--start-period`, `--start-interval`, `--retries`.
        flags: Vec<Flag>,
        /// The probe.
        command: CommandLine,
    },
}

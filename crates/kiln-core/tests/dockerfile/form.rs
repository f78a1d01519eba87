//! What kiln reads, in the form of the tables.

use kiln_core::diagnostic::Diagnostic;
use kiln_core::dockerfile::{
    ArgDeclaration, CommandLine, Copy, CopySource, Flag, From, Healthcheck, Instruction,
    InstructionKind, KeyValue, Word, WordError, comments_before, expand, expand_body,
    expand_display, expand_words, parse, parse_interval, parse_retries,
};
use kiln_core::source::{SourceFile, Span};
use serde_json::{Value, json};

/// The variables of all words in the tables.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = match name {
        "ONE" => "one",
        "TWO" => "two words",
        "EMPTY" | "b" => "",
        "FILE" => "/a/foo/b.tar.gz",
        "STARS" => "x*y**",
        "LINES" => "a\nb",
        "GREEK" => "αβγαβ",
        "PATTERN" => "/?oo/",
        "a" => "aXb",
        "Q" => "it's \"q\" \\ $a",
        "SP" => " l  r ",
        _ => return None,
    };
    Some(value.to_owned())
}

/// A word expanded in all ways, without what is as expected anyway (`words` that are the text, a
/// `body` like the text, a `display` like the word); an error counts as BuildKit's if it begins with the same words.
pub(crate) fn word(word: &str, escape: char, expected: &Value) -> Value {
    let mut out = json!({});
    let text = match (expand(word, escape, &variable), expand_words(word, escape, &variable)) {
        (Ok(expansion), Ok(words)) => {
            out["text"] = json!(expansion.text);
            if words.words != [expansion.text.as_str()] {
                out["words"] = json!(words.words);
            }
            for (name, names) in [("used", &expansion.used), ("unset", &expansion.unset)] {
                if !names.is_empty() {
                    out[name] = json!(names);
                }
            }
            expansion.text
        }
        (Err(error), _) | (_, Err(error)) => {
            out["err"] = message(&error, &expected["err"]);
            String::new()
        }
    };
    let display = expand_display(word, escape, &variable);
    if display != word {
        out["display"] = json!(display);
    }
    match expand_body(word, escape, &variable) {
        Ok(body) if body.text == text => {}
        Ok(body) => out["body"] = json!(body.text),
        Err(error) => out["body_err"] = message(&error, &expected["body_err"]),
    }
    out
}

fn message(error: &WordError, expected: &Value) -> Value {
    let message = error.kind.to_string();
    let expected = expected.as_str().unwrap_or("no error");
    // BuildKit shows patterns of `%` backwards, and the end of a text as U+FFFD.
    let words = match expected.strip_prefix("invalid pattern (") {
        Some(_) => "invalid pattern (",
        None => expected.split('\u{fffd}').next().unwrap_or(expected),
    };
    if message.starts_with(words) { json!(expected) } else { json!(message) }
}

/// A Dockerfile; that there is an error counts, not which.
pub(crate) fn dockerfile(text: &str, expected: &Value) -> Value {
    let source = SourceFile::new("Dockerfile", text);
    let (file, diagnostics) = parse(&source);
    let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    if let Some(error) = error {
        return match expected.get("err") {
            Some(expected) => json!({ "err": expected }),
            None => json!({ "err": error.message }),
        };
    }
    let empty = |diagnostic: &&Diagnostic| diagnostic.code == "NoEmptyContinuation";
    let mut out = json!({});
    if file.directives.escape != '\\' {
        out["escape"] = json!(file.directives.escape);
    }
    let warnings = diagnostics.iter().filter(empty).count();
    if warnings > 0 {
        out["warn"] = json!(warnings);
    }
    if let Some(check) = &file.directives.check {
        out["check"] = json!(check.value);
    }
    if let Some(syntax) = &file.directives.syntax {
        out["syntax"] = json!(syntax.value.split(' ').next());
    }
    let mut instructions = Vec::new();
    instructions.extend(file.global_args.iter().map(|it| instruction(it, &source)));
    for stage in &file.stages {
        instructions.push(from(&stage.from, &source));
        instructions.extend(stage.instructions.iter().map(|it| instruction(it, &source)));
    }
    out["is"] = json!(instructions);
    out
}

fn line(text: &str, span: Span, flags: &[Flag], source: &SourceFile) -> Value {
    let mut out = json!({
        "text": text,
        "line": source.position(span.start).line,
    });
    if !flags.is_empty() {
        out["flags"] = json!(flags.iter().map(flag).collect::<Vec<_>>());
    }
    let comments: Vec<String> =
        comments_before(source, span.start).into_iter().map(|it| it.value).collect();
    if !comments.is_empty() {
        out["comments"] = json!(comments);
    }
    out
}

fn flag(flag: &Flag) -> String {
    match &flag.value {
        Some(value) => format!("--{}={}", flag.name, value.text),
        None => format!("--{}", flag.name),
    }
}

fn from(from: &From, source: &SourceFile) -> Value {
    let platform = from.platform.as_ref().map_or("", |word| &word.text);
    let name = from.name.as_ref().map_or(String::new(), |name| name.value.to_lowercase());
    let mut out = line(&from.text, from.span, &[], source);
    out["FROM"] = json!([from.image.text, platform, name]);
    out
}

fn instruction(it: &Instruction, source: &SourceFile) -> Value {
    use InstructionKind as Kind;
    let none: &[Flag] = &[];
    let (name, flags, said) = match &it.kind {
        Kind::Add(it) => ("ADD", &it.flags[..], copy(it)),
        Kind::Arg(it) => ("ARG", none, json!(it.iter().map(declaration).collect::<Vec<_>>())),
        Kind::Cmd(it) => ("CMD", none, command(it)),
        Kind::Copy(it) => ("COPY", &it.flags[..], copy(it)),
        Kind::Entrypoint(it) => ("ENTRYPOINT", none, command(it)),
        Kind::Env(it) => ("ENV", none, pairs(it)),
        Kind::Expose(it) => {
            let mut words = texts(it);
            words.sort_unstable();
            ("EXPOSE", none, json!(words))
        }
        Kind::Healthcheck(Healthcheck::None) => {
            ("HEALTHCHECK", none, json!([["NONE"], 0, 0, 0, 0, 0]))
        }
        Kind::Healthcheck(Healthcheck::Cmd { flags, command }) => {
            ("HEALTHCHECK", &flags[..], healthcheck(flags, command))
        }
        Kind::Label(it) => ("LABEL", none, pairs(it)),
        Kind::Maintainer(it) => ("MAINTAINER", none, json!(it.text)),
        Kind::Onbuild(it) => ("ONBUILD", none, json!(it.text)),
        Kind::Run(it) => ("RUN", &it.flags[..], command(&it.command)),
        Kind::Shell(it) => ("SHELL", none, json!(it)),
        Kind::StopSignal(it) => ("STOPSIGNAL", none, json!(it.text)),
        Kind::User(it) => ("USER", none, json!(it.text)),
        Kind::Volume(it) => ("VOLUME", none, json!(texts(it))),
        Kind::Workdir(it) => ("WORKDIR", none, json!(it.text)),
    };
    let mut out = line(&it.text, it.span, flags, source);
    out[name] = said;
    out
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

fn declaration(it: &ArgDeclaration) -> Value {
    json!([it.name.text, it.default.as_ref().map(|default| &default.text)])
}

fn pairs(pairs: &[KeyValue]) -> Value {
    pairs.iter().map(|it| json!([it.key.text, it.value.text, it.legacy])).collect()
}

fn command(it: &CommandLine) -> Value {
    match it {
        CommandLine::Exec { args, .. } => json!([false, args, []]),
        CommandLine::Shell { text, heredocs, .. } => {
            let words = Vec::from_iter((!text.is_empty()).then_some(text));
            let bodies: Vec<Value> =
                heredocs.iter().map(|heredoc| json!([heredoc.name, heredoc.body])).collect();
            json!([true, words, bodies])
        }
    }
}

fn copy(it: &Copy) -> Value {
    let mut paths = Vec::new();
    let mut bodies = Vec::new();
    for source in &it.sources {
        match source {
            CopySource::Path(word) => paths.push(&word.text),
            CopySource::Heredoc(it, _) => bodies.push(json!([it.name, it.body, it.expand])),
        }
    }
    json!([paths, bodies, it.destination.text])
}

fn healthcheck(flags: &[Flag], command: &CommandLine) -> Value {
    let test: Vec<String> = match command {
        CommandLine::Exec { args, .. } => {
            std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
        }
        CommandLine::Shell { text, .. } => vec!["CMD-SHELL".to_owned(), text.clone()],
    };
    let value = |name: &str| {
        let flag = flags.iter().find(|flag| flag.name == name);
        flag.and_then(|flag| flag.value.as_ref()).map_or("", |value| value.text.as_str())
    };
    let duration = |name: &str| parse_interval(name, value(name)).unwrap();
    json!([
        test,
        duration("interval"),
        duration("timeout"),
        duration("start-period"),
        duration("start-interval"),
        parse_retries(value("retries")).unwrap(),
    ])
}

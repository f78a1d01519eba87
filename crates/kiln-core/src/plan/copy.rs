//! COPY and ADD: from words to a [`CopyOp`].

use super::history::Layered;
use super::instructions::{Place, step_name};
use super::planner::{Planner, Stuck};
use super::remote::{Remote, is_remote};
use super::scope::Environment;
use super::stage::{StageState, clean_destination, clean_path};
use super::{CopyFrom, CopyOp, FileOp, Input, Link, ModeChange, Op, Parents, Unpack};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{
    Copy, CopySource, Instruction, InstructionKind, Word, expand_body, parse_bool,
};

/// The flags of COPY and ADD after expansion.
#[derive(Debug, Default)]
struct Flags {
    from: Option<(String, crate::source::Span)>,
    owner: Option<String>,
    mode: Option<String>,
    excludes: Vec<String>,
    parents: Parents,
    link: Link,
    unpack: Option<Unpack>,
    checksum: Option<(String, crate::source::Span)>,
    keep_git_dir: Option<bool>,
}

/// Applies COPY or ADD to a stage.
pub(super) fn apply(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    instruction: &Instruction,
    copy: &Copy,
    place: &Place,
) -> Result<(), Stuck> {
    let is_add = matches!(instruction.kind, InstructionKind::Add(_));
    let keyword = if is_add { "ADD" } else { "COPY" };
    let flags = flags(planner, state, copy)?;
    let source = match &flags.from {
        None => None,
        Some((from, span)) => Some(planner.copy_from(from, place.stage, *span)?),
    };
    let destination = planner.expand(&copy.destination, &state.env)?;

    let mut line = keyword.to_owned();
    if flags.parents == Parents::Keep {
        line.push_str(" --parents");
    }
    for (name, value) in [("chown", &flags.owner), ("chmod", &flags.mode)] {
        if let Some(value) = value {
            line.push_str(&format!(" --{name}={value}"));
        }
    }

    let mut inputs = vec![state.root];
    let mut remote = Remote::new(is_add, flags.checksum.clone(), flags.keep_git_dir);
    check_checksum(planner, state, copy, &flags)?;
    let found = (&flags, source, &mut inputs);
    let sources = sources(planner, state, copy, found, (&mut line, &mut remote))?;
    // What is downloaded stays as it is, unless unpacking is asked for.
    let unpack = if is_add && !remote.has_download { Unpack::Yes } else { Unpack::No };
    line.push_str(&format!(" {destination}"));

    let mode = mode(planner, copy, flags.mode.as_deref())?;
    // BuildKit merges a linked layer only when no mode is asked for.
    let link = if mode.is_some() { Link::No } else { flags.link };
    let name = step_name(planner, state, instruction, place);
    let op = CopyOp {
        sources,
        destination: clean_destination(&state.cwd(), &destination),
        owner: flags.owner,
        mode,
        excludes: flags.excludes,
        parents: flags.parents,
        link,
        unpack: flags.unpack.unwrap_or(unpack),
        epoch: planner.epoch(),
    };
    state.root = planner.add(Op::File(FileOp::Copy(op)), inputs, instruction.span, name);
    state.record(&line, Layered::Marked);
    Ok(())
}

fn flags(planner: &mut Planner<'_>, state: &StageState, copy: &Copy) -> Result<Flags, Stuck> {
    let mut flags = Flags::default();
    for flag in &copy.flags {
        let value = match &flag.value {
            Some(word) if flag.name == "from" => from_name(planner, word)?,
            // BuildKit expands no variables here.
            Some(word) if flag.name == "exclude" => word.text.clone(),
            Some(word) => planner.expand(word, &state.env)?,
            None => String::new(),
        };
        let on = flag.value.is_none() || parse_bool(&value) == Some(true);
        match flag.name.as_str() {
            "from" => flags.from = (!value.is_empty()).then_some((value, flag.span)),
            "chown" => flags.owner = (!value.is_empty()).then_some(value),
            "chmod" => flags.mode = (!value.is_empty()).then_some(value),
            "exclude" => flags.excludes.push(value),
            "parents" if on => flags.parents = Parents::Keep,
            "link" if on => flags.link = Link::Yes,
            "unpack" => {
                flags.unpack = Some(if on { Unpack::Yes } else { Unpack::No });
            }
            "keep-git-dir" => flags.keep_git_dir = Some(on),
            "checksum" if !value.is_empty() => flags.checksum = Some((value, flag.span)),
            "parents" | "link" | "checksum" => {}
            name => {
                let message = format!("--{name} is not supported");
                return planner.fail(Diagnostic::error("unsupported-flag", flag.span, message));
            }
        }
    }
    Ok(flags)
}

/// `--from` takes a name as it is; quotes and escapes count as variables (BuildKit).
pub(super) fn from_name(planner: &mut Planner<'_>, word: &Word) -> Result<String, Stuck> {
    let name = planner.expand(word, &Environment::default())?;
    if name == word.text {
        return Ok(name);
    }
    let message = "variable expansion is not supported for --from";
    let help = "define a stage with `FROM` and an ARG before the first FROM, and name that stage";
    planner.fail(Diagnostic::error("variable-in-from", word.span, message).with_help(help))
}

/// Only one source of the web can have a checksum.
fn check_checksum(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
    flags: &Flags,
) -> Result<(), Stuck> {
    let Some((_, span)) = &flags.checksum else { return Ok(()) };
    let message = match copy.sources.as_slice() {
        [CopySource::Path(word)] if is_remote(&planner.expand(word, &state.env)?) => return Ok(()),
        [_] => "checksum requires HTTP(S) or Git sources",
        _ => "checksum can't be specified for multiple sources",
    };
    planner.fail(Diagnostic::error("unsupported-flag", *span, message))
}

fn sources(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
    (flags, from, inputs): (&Flags, Option<Input>, &mut Vec<Input>),
    (line, remote): (&mut String, &mut Remote),
) -> Result<Vec<CopyFrom>, Stuck> {
    let mut found = Vec::new();
    let mut files = None;
    for source in &copy.sources {
        let CopySource::Path(word) = source else {
            continue;
        };
        let path = planner.expand(word, &state.env)?;
        line.push_str(&format!(" {path}"));
        if let Some((step, path)) = remote.step(planner, &path, word.span)? {
            inputs.push(step);
            found.push(CopyFrom::Input { input: inputs.len() - 1, path });
            continue;
        }
        if flags.parents == Parents::Keep {
            keeps_something(planner, word, &path)?;
        }
        let path = match flags.parents {
            Parents::Drop => clean_path("/", &path),
            // The pivot `/./` divides what is dropped from what is kept.
            Parents::Keep => match path.split_once("/./") {
                Some((above, kept)) => {
                    format!("{}/./{}", clean_path("/", above), &clean_path("/", kept)[1..])
                }
                None => format!("/./{}", &clean_path("/", &path)[1..]),
            },
        };
        let input = *files.get_or_insert_with(|| {
            inputs.push(from.unwrap_or_else(|| planner.context(None)));
            inputs.len() - 1
        });
        found.push(CopyFrom::Input { input, path });
    }
    for source in &copy.sources {
        let CopySource::Heredoc(heredoc, span) = source else {
            continue;
        };
        line.push_str(&format!(" <<{}", heredoc.name));
        let contents = if heredoc.expand {
            // Bodies always escape with a backslash, whatever the directive says (BuildKit).
            match expand_body(&heredoc.body, '\\', &|name| state.env.value(name)) {
                Ok(expansion) => {
                    planner.count_expanded(expansion.text.len(), *span)?;
                    expansion.text
                }
                Err(error) => {
                    let error = Diagnostic::error("word-expansion", *span, error.to_string());
                    return planner.fail(error);
                }
            }
        } else {
            heredoc.body.clone()
        };
        found.push(CopyFrom::Inline { name: heredoc.name.clone(), contents });
    }
    Ok(found)
}

/// Refuses what BuildKit finds nothing for: `--parents` with nothing left behind the pivot.
fn keeps_something(planner: &mut Planner<'_>, word: &Word, path: &str) -> Result<(), Stuck> {
    let (above, kept) = path.split_once("/./").unwrap_or(("/", path));
    if clean_path("/", kept) != "/" || above.contains(['*', '?', '[']) {
        return Ok(());
    }
    let message =
        format!("`{}`: not found: --parents keeps no path of `{path}`", clean_path("/", above));
    let error = Diagnostic::error("copy-failed", word.span, message);
    planner.fail(error.with_help("end the source with `*`"))
}

fn mode(
    planner: &mut Planner<'_>,
    copy: &Copy,
    text: Option<&str>,
) -> Result<Option<ModeChange>, Stuck> {
    let Some(text) = text else { return Ok(None) };
    // Rust would take a sign.
    let digits = text.strip_prefix('+').map_or(text, |_| "");
    match u32::from_str_radix(digits, 8) {
        Ok(bits) if bits <= 0o7777 => return Ok(Some(ModeChange::Absolute(bits))),
        Err(_) if crate::mode::is_symbolic(text) => {
            return Ok(Some(ModeChange::Symbolic(text.to_owned())));
        }
        _ => {}
    }
    let flag = copy.flags.iter().find(|flag| flag.name == "chmod");
    let span = flag.map_or(copy.destination.span, |flag| flag.span);
    let message = format!(
        "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, \
         or symbolic like u=rwX,go=rX"
    );
    planner.fail(Diagnostic::error("invalid-mode", span, message))
}

//! COPY and ADD: from words to a [`CopyOp`].

use super::history::Layered;
use super::instructions::{Place, step_name};
use super::planner::{Planner, Stuck};
use super::scope::Environment;
use super::stage::{StageState, clean_destination, clean_path};
use super::{CopyFrom, CopyOp, FileOp, Input, Link, ModeChange, Op, Parents, SourceOp, Unpack};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{
    Copy, CopySource, Flag, Instruction, InstructionKind, Word, expand_body, parse_bool,
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
    checksum: Option<String>,
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
    let sources = sources(planner, state, copy, (&flags, source, &mut inputs), &mut line)?;
    let has_download = sources.iter().any(|source| {
        matches!(source, CopyFrom::Input { input, .. } if planner.is_download(inputs[*input]))
    });
    // What is downloaded stays as it is, unless unpacking is asked for.
    let unpack = if is_add && !has_download { Unpack::Yes } else { Unpack::No };
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
            "parents" | "link" => {}
            "checksum" if value.is_empty() => {}
            "keep-git-dir" if !has_remote_source(planner, state, copy)? => {}
            "checksum" if is_one_download(planner, state, copy)? => flags.checksum = Some(value),
            _ => return refuse_flag(planner, state, copy, flag),
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

fn refuse_flag(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
    flag: &Flag,
) -> Result<Flags, Stuck> {
    let remote = has_remote_source(planner, state, copy)?;
    let message = match flag.name.as_str() {
        "checksum" if !remote => "checksum requires HTTP(S) or Git sources".to_owned(),
        "checksum" if copy.sources.len() > 1 => {
            "checksum can't be specified for multiple sources".to_owned()
        }
        name => format!("--{name} is not supported: kiln does not add git repositories yet"),
    };
    planner.fail(Diagnostic::error("unsupported-flag", flag.span, message))
}

/// Whether a source is not of the build context.
fn has_remote_source(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
) -> Result<bool, Stuck> {
    let mut remote = false;
    for source in &copy.sources {
        if let CopySource::Path(word) = source {
            remote |= is_remote(&planner.expand(word, &state.env)?);
        }
    }
    Ok(remote)
}

/// Whether the only source is a file of the web.
fn is_one_download(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
) -> Result<bool, Stuck> {
    match copy.sources.as_slice() {
        [CopySource::Path(word)] => Ok(is_download(&planner.expand(word, &state.env)?)),
        _ => Ok(false),
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://"]
        .iter()
        .any(|start| source.starts_with(start))
}

fn sources(
    planner: &mut Planner<'_>,
    state: &StageState,
    copy: &Copy,
    (flags, from, inputs): (&Flags, Option<Input>, &mut Vec<Input>),
    line: &mut String,
) -> Result<Vec<CopyFrom>, Stuck> {
    let mut found = Vec::new();
    let mut files = None;
    for source in &copy.sources {
        let CopySource::Path(word) = source else {
            continue;
        };
        let path = planner.expand(word, &state.env)?;
        if is_download(&path) && flags.from.is_none() && planner_keyword(line) == "ADD" {
            line.push_str(&format!(" {path}"));
            let (download, name) = download(planner, word, &path, flags)?;
            inputs.push(download);
            found.push(CopyFrom::Input { input: inputs.len() - 1, path: format!("/{name}") });
            continue;
        }
        if is_remote(&path) {
            let (message, help) = if flags.from.is_some() || planner_keyword(line) != "ADD" {
                ("source can't be a URL for COPY".to_owned(), "ADD takes URLs")
            } else {
                let message = format!(
                    "ADD of `{path}` is not supported: kiln does not add git repositories yet"
                );
                (message, "clone it in a RUN, or put it into the build context")
            };
            let error = Diagnostic::error("unsupported-source", word.span, message).with_help(help);
            return planner.fail(error);
        }
        line.push_str(&format!(" {path}"));
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
                Ok(expansion) => expansion.text,
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

/// The step that downloads a URL, and the name of its file.
fn download(
    planner: &mut Planner<'_>,
    word: &Word,
    url: &str,
    flags: &Flags,
) -> Result<(Input, String), Stuck> {
    let checksum = match flags.checksum.as_deref().map(str::parse) {
        None => None,
        Some(Ok(digest)) => Some(digest),
        Some(Err(error)) => {
            return planner.fail(Diagnostic::error(
                "invalid-checksum",
                word.span,
                format!("invalid checksum: {error}"),
            ));
        }
    };
    let path = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or("");
    let name = path.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    let name = match name.rsplit('/').next() {
        None | Some("" | "." | "..") => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    };
    let op = SourceOp::Download { url: url.to_owned(), name: name.clone(), checksum };
    let title = format!("[internal] download {url}");
    Ok((planner.add(Op::Source(op), Vec::new(), word.span, title), name))
}

/// Whether a source is a file of the web; `https://host/repository.git` is a repository.
fn is_download(source: &str) -> bool {
    let is_web = ["http://", "https://"].iter().any(|start| source.starts_with(start));
    let path = source.split(['?', '#']).next().unwrap_or(source);
    is_web && path.trim_end_matches('/').strip_suffix(".git").is_none()
}

fn planner_keyword(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
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

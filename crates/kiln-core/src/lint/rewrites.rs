//! The safe rewrites of BuildKit's rules. Each gives `None` where it is not certain of the result.

use super::fix::Edit;
pub(super) use super::fix::Fix;
use crate::dockerfile::{
    CommandLine, Dockerfile, Flag, From, Instruction, InstructionKind, KeyValue, Run, Word, expand,
    flags, parse,
};
use crate::source::{SourceFile, Span};

/// The label that stands for MAINTAINER.
const AUTHORS: &str = "org.opencontainers.image.authors";

/// A word in another case, if the text has it in one piece.
pub(super) fn word(source: &SourceFile, span: Span, written: &str, new: &str) -> Option<Fix> {
    (source.slice(span) == written).then(|| Fix::replace(span, new))
}

/// Deletes empty lines; comments between them stay.
pub(super) fn empty_lines(source: &SourceFile, span: Span) -> Option<Fix> {
    let mut edits = Vec::new();
    let mut start = span.start as usize;
    for line in source.text().get(start..)?.split_inclusive('\n') {
        if start > span.end as usize {
            break;
        }
        if line.trim().is_empty() {
            edits.push(Edit { span: Span::new(start, start + line.len()), text: String::new() });
        }
        start += line.len();
    }
    join(&mut edits);
    (!edits.is_empty()).then_some(Fix { edits })
}

/// Makes one edit of deletions that follow each other.
fn join(edits: &mut Vec<Edit>) {
    edits.dedup_by(|next, edit| {
        let follows = edit.span.end == next.span.start;
        if follows {
            edit.span.end = next.span.end;
        }
        follows
    });
}

/// The name of stage `index` in lower case, there and in every `--from` and `from=` that means it.
pub(super) fn stage_name(
    source: &SourceFile,
    dockerfile: &Dockerfile,
    index: usize,
) -> Option<Fix> {
    let name = dockerfile.stages[index].from.name.as_ref()?;
    let lower = name.value.to_lowercase();
    let mut fix = word(source, name.span, &name.value, &lower)?;
    let later = dockerfile.stages[index..].iter();
    for instruction in later.flat_map(|stage| &stage.instructions) {
        for flag in flags_of(&instruction.kind) {
            let Some(value) = &flag.value else { continue };
            if source.slice(value.span) != value.text {
                continue;
            }
            let mut at = value.span.start as usize;
            for part in value.text.split(',') {
                let named = match flag.name.as_str() {
                    "from" => part,
                    _ => part.strip_prefix("from=").unwrap_or(""),
                };
                if named != lower && named.to_lowercase() == lower {
                    let start = at + part.len() - named.len();
                    let span = Span::new(start, start + named.len());
                    fix.edits.push(Edit { span, text: lower.clone() });
                }
                at += part.len() + 1;
            }
        }
    }
    Some(fix)
}

fn flags_of(kind: &InstructionKind) -> impl Iterator<Item = &Flag> {
    let (flags, name): (&[Flag], &str) = match kind {
        InstructionKind::Copy(copy) | InstructionKind::Add(copy) => (&copy.flags, "from"),
        InstructionKind::Run(run) => (&run.flags, "mount"),
        _ => (&[], ""),
    };
    flags.iter().filter(move |flag| flag.name == name)
}

/// `ENV key some value` as `ENV key="some value"`.
pub(super) fn legacy_pair(
    source: &SourceFile,
    pair: &KeyValue,
    keyword: &str,
    escape: char,
) -> Option<Fix> {
    let span = pair.key.span.to(pair.value.span);
    // What is written over several lines is left to its author.
    if source.slice(span).contains('\n') {
        return None;
    }
    let (key, value) = (&pair.key.text, &pair.value.text);
    let bare = format!("{key}={value}");
    let quoted = format!("{key}=\"{value}\"");
    let escaped = format!("{key}={}", value.replace('"', &format!("{escape}\"")));
    let means_the_same = |text: &String| same_pair(text, pair, keyword, escape);
    [bare, quoted, escaped].into_iter().find(means_the_same).map(|text| Fix::replace(span, text))
}

/// Whether `text` is one `key=value` that expands to what the legacy pair expands to.
fn same_pair(text: &str, old: &KeyValue, keyword: &str, escape: char) -> bool {
    let directive = if escape == '`' { "# escape=`\n" } else { "" };
    let file = SourceFile::new("", format!("{directive}FROM scratch\n{keyword} {text}\n"));
    let (dockerfile, diagnostics) = parse(&file);
    let Some(Instruction { kind, .. }) =
        dockerfile.stages.first().and_then(|stage| stage.instructions.first())
    else {
        return false;
    };
    let (InstructionKind::Env(pairs) | InstructionKind::Label(pairs)) = kind else { return false };
    let [new] = pairs.as_slice() else { return false };
    // Nothing is set, all is empty, all is full of what is special.
    let full = |name: &str| Some(format!("{name} 'a\"\\ $b"));
    let same = |old: &Word, new: &Word| {
        let in_environment = |value: &dyn Fn(&str) -> Option<String>| {
            let words = (expand(&old.text, escape, value), expand(&new.text, escape, value));
            matches!(words, (Ok(old), Ok(new)) if old.text == new.text)
        };
        in_environment(&|_| None)
            && in_environment(&|_| Some(String::new()))
            && in_environment(&full)
    };
    diagnostics.is_empty()
        && !new.legacy
        && same(&old.key, &new.key)
        && same(&old.value, &new.value)
}

/// MAINTAINER as a label, unless the file has this label somewhere.
pub(super) fn maintainer(
    source: &SourceFile,
    instruction: &Instruction,
    author: &Word,
) -> Option<Fix> {
    let span = instruction.keyword.span.to(author.span);
    if source.text().contains(AUTHORS) || source.slice(author.span) != author.text {
        return None;
    }
    let mut value = String::new();
    for c in author.text.chars() {
        if matches!(c, '"' | '$' | '\\' | '`') {
            // Which of them is special depends on the escape character.
            return None;
        }
        value.push(c);
    }
    let upper = instruction.keyword.value != instruction.keyword.value.to_lowercase();
    let keyword = if upper { "LABEL" } else { "label" };
    Some(Fix::replace(span, format!("{keyword} {AUTHORS}=\"{value}\"")))
}

/// Takes `--platform=…` out of FROM.
pub(super) fn without_platform(source: &SourceFile, from: &From) -> Option<Fix> {
    let platform = from.platform.as_ref()?;
    let flag = "--platform=";
    let start = (platform.span.start as usize).checked_sub(flag.len())?;
    let end = platform.span.end as usize;
    let text = source.text();
    let blanks = text[end..].len() - text[end..].trim_start_matches([' ', '\t']).len();
    let whole = source.slice(platform.span) == platform.text && blanks > 0;
    (whole && text.get(start..)?.starts_with(flag))
        .then(|| Fix::replace(Span::new(start, end + blanks), ""))
}

/// A port with its protocol in lower case.
pub(super) fn lower_protocol(source: &SourceFile, port: &Word) -> Option<Fix> {
    let (number, protocol) = plain(source, port)?.rsplit_once('/')?;
    Some(Fix::replace(port.span, format!("{number}/{}", protocol.to_lowercase())))
}

/// The container's port of `IP:HOST:CONTAINER`.
pub(super) fn container_port(source: &SourceFile, port: &Word) -> Option<Fix> {
    let (_, container) = plain(source, port)?.rsplit_once(':')?;
    // `80:` exposes nothing, and a word that is nothing is no port.
    let container = (!container.is_empty()).then_some(container)?;
    Some(Fix::replace(port.span, container))
}

/// A word that stands in the text as it is and means itself.
pub(super) fn plain<'a>(source: &SourceFile, word: &'a Word) -> Option<&'a str> {
    let special = |c: char| matches!(c, '$' | '"' | '\'' | '\\' | '`') || c.is_whitespace();
    (source.slice(word.span) == word.text && !word.text.contains(special)).then_some(&*word.text)
}

/// `RUN apt-get update` and, right after it, `RUN apt-get install …` as one RUN.
pub(super) fn joined_runs(
    source: &SourceFile,
    (first, second): (&Instruction, &Instruction),
    escape: char,
) -> Option<Fix> {
    let (first_text, _) = one_line(source, first)?;
    let (second_text, install) = one_line(source, second)?;
    let words: Vec<&str> = second_text.split_whitespace().collect();
    let installs = matches!(words.first(), Some(&("apt-get" | "apt")))
        && words[1..].iter().find(|word| !word.starts_with('-')) == Some(&"install");
    // With `;` and `|` what follows would run, or hide, when the update fails.
    let chained = second_text.replace("&&", "").contains(['&', ';', '|', '(', '{', '`', '#']);
    let alone = !first_text.contains(['&', ';', '|', '(', '{', '`', '#', '$']);
    let between = Span { start: first.span.end, end: second.span.start };
    if !installs || chained || !alone || !source.slice(between).trim().is_empty() {
        return None;
    }
    let gap = Span { start: first.span.end, end: install.start };
    let indent = " ".repeat(first.keyword.value.len() + 1);
    Some(Fix::replace(gap, format!(" {escape}\n{indent}&& ")))
}

/// The command of a RUN that has no flags and no here-documents, and where it stands.
fn one_line<'a>(source: &SourceFile, instruction: &'a Instruction) -> Option<(&'a str, Span)> {
    let InstructionKind::Run(Run { flags, command }) = &instruction.kind else { return None };
    let CommandLine::Shell { text, heredocs, span } = command else { return None };
    let simple =
        flags.is_empty() && heredocs.is_empty() && flags::texts(flags, "mount").count() == 0;
    // What the span covers is the text, but for continued lines.
    let stands = source.slice(*span).starts_with(text.split_whitespace().next()?);
    (simple && stands).then_some((text.trim(), *span))
}

/// Another target of a mount, if it is known for sure.
pub(super) fn mount_target(source: &SourceFile, mount: &Word, target: &str) -> Option<Fix> {
    if !target.starts_with('/') || source.slice(mount.span) != mount.text {
        return None;
    }
    let mut at = mount.span.start as usize;
    for part in mount.text.split(',') {
        if let Some((key @ ("target" | "dst" | "destination"), old)) = part.split_once('=') {
            let start = at + key.len() + 1;
            return Some(Fix::replace(Span::new(start, start + old.len()), target));
        }
        at += part.len() + 1;
    }
    None
}

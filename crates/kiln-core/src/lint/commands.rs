//! What a RUN runs, as far as it can be seen from outside: simple commands and their words.
//!
//! This is no shell. Quotes group words, `;`, `&`, `|`, parentheses and line ends separate
//! commands, keywords before a command are dropped; expansions stay as they are written.

use crate::dockerfile::{CommandLine, Run};

/// `A=1 name word word`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SimpleCommand {
    /// `A=1` before the name, also of `env` and `export`.
    pub(super) assignments: Vec<(String, String)>,
    /// The name without its directory, and the words after it; may be empty.
    pub(super) words: Vec<String>,
}

impl SimpleCommand {
    /// The command's name.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words after the name that are no options.
    pub(super) fn operands(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str).filter(|word| !word.starts_with('-'))
    }

    /// Whether it is `name` with `subcommand` as its first word that is no option.
    pub(super) fn is(&self, name: &str, subcommands: &[&str]) -> bool {
        self.name() == name
            && self.operands().next().is_some_and(|word| subcommands.contains(&word))
    }

    /// The value of `--option=value` or `--option value`.
    pub(super) fn option(&self, option: &str) -> Option<&str> {
        self.words.iter().enumerate().find_map(|(index, word)| {
            let rest = word.strip_prefix(option)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value),
                None if rest.is_empty() => self.words.get(index + 1).map(String::as_str),
                None => None,
            }
        })
    }
}

/// The commands of a RUN in order, those of here-documents included.
pub(super) fn commands(run: &Run) -> Vec<SimpleCommand> {
    match &run.command {
        CommandLine::Exec { args, .. } => {
            let shell = args.iter().position(|word| word.starts_with('-') && word.ends_with('c'));
            match shell.and_then(|at| args.get(at + 1)) {
                Some(script) if is_shell(&args[0]) => parse(script),
                _ => simple(args.clone()).into_iter().collect(),
            }
        }
        CommandLine::Shell { text, heredocs, .. } => {
            let mut commands = parse(text);
            for heredoc in heredocs {
                commands.extend(parse(&heredoc.body));
            }
            commands
        }
    }
}

fn is_shell(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash" | "zsh"))
}

fn parse(script: &str) -> Vec<SimpleCommand> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                while let Some(inner) = chars.next_if(|inner| *inner != c) {
                    if inner == '\\' && c == '"' {
                        word.extend(chars.next());
                    } else {
                        word.push(inner);
                    }
                }
                chars.next();
            }
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '#' if word.is_none() => while chars.next_if(|inner| *inner != '\n').is_some() {},
            ';' | '&' | '|' | '(' | ')' | '\n' | '`' => {
                words.extend(word.take());
                commands.extend(simple(std::mem::take(&mut words)));
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.extend(simple(words));
    commands
}

/// Drops what stands before the command's name.
fn simple(words: Vec<String>) -> Option<SimpleCommand> {
    let mut command = SimpleCommand::default();
    for word in words {
        if !command.words.is_empty() {
            command.words.push(word);
            continue;
        }
        let prefix = matches!(
            word.as_str(),
            "sudo"
                | "env"
                | "export"
                | "exec"
                | "time"
                | "nice"
                | "then"
                | "else"
                | "elif"
                | "if"
                | "do"
                | "while"
                | "until"
                | "!"
                | "{"
                | "command"
                | "eval"
        );
        if prefix || word == "$" {
            continue;
        }
        match word.split_once('=') {
            Some((name, value)) if is_name(name) => {
                command.assignments.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                let name = word.rsplit('/').next().unwrap_or(&word).to_owned();
                command.words.push(name);
            }
        }
    }
    (!command.words.is_empty() || !command.assignments.is_empty()).then_some(command)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(script: &str) -> String {
        let commands = parse(script);
        let lines: Vec<String> = commands.iter().map(|it| it.words.join(" ")).collect();
        lines.join("|")
    }

    #[test]
    fn scripts_are_cut_into_commands() {
        assert_eq!(names("a b && /usr/bin/c 'd e' ; X=1 f"), "a b|c d e|f");
        assert_eq!(names("if ! a; then sudo b; fi"), "a|b|fi");
        assert_eq!(names("(a\n# c\nb) | \"c d\" \\\n e"), "a|b|c d e");
        assert_eq!(names("x $(y z)"), "x $|y z");
        let command = parse("A=1 pip --cache-dir=/x install -r f").remove(0);
        assert_eq!(command.assignments, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(command.option("--cache-dir"), Some("/x"));
        assert!(command.is("pip", &["install"]));
    }
}

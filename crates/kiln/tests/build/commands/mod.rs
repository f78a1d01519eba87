//! What each command prints: its main output and its main error, whole, as a user sees them. How
//! commands behave is tested elsewhere; here is how they look.
//!
//! The tests of a command are called after it: `history_ls_output` and `history_ls_error`.

mod building;
mod explaining;
mod images;
mod machine;
mod projects;
mod registries;
mod store;

use std::path::Path;

use kiln_testkit::filters::{Run, unaligned};
use kiln_testkit::registry::Registry;
use serde_json::Value;

use crate::fixture::{KILN, Project, base_layout};

/// Two stages; both steps of the second one see `app/file`.
const DOCKERFILE: &str = "FROM base AS tools\nRUN echo tools > /tools\n\
    FROM tools AS app\nCOPY file /file\nRUN cat /file; cp /file /made\nCMD [\"cat\", \"/made\"]\n";

/// A project that was not built yet.
fn project() -> Project {
    let project = Project::new(DOCKERFILE);
    project.write("app/file", "one\n");
    project
}

/// Built as `app:1`: b1 clean, b2 cached, b3 after an edit.
fn built() -> Project {
    let project = project();
    project.build(&["-t", "app:1"]);
    project.build(&["-t", "app:1"]);
    project.write("app/file", "two\n");
    project.build(&["-t", "app:1"]);
    project
}

impl Project {
    /// Status, standard output and standard error of a command, with what changes replaced.
    fn shown(&self, arguments: &[&str]) -> String {
        let (store, home) = (self.store(), self.path());
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (store, home) = (text(&store), text(home));
        let run = Run {
            binary: Path::new(KILN),
            directory: self.path(),
            environment: &[("KILN_ROOT", &store), ("HOME", &home)],
            paths: &[(base_layout(), "[base]")],
        };
        run.snapshot(arguments)
    }

    /// A build of `app/`, shown without numbers and without what goes on beside its steps: that
    /// comes in any order.
    fn shown_build(&self, extra: &[&str]) -> String {
        let arguments = Self::build_arguments(extra);
        let text = self.shown(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let (before, log) = text.split_once("--- stderr\n").unwrap();
        let parts: Vec<String> = log
            .split("\n\n")
            .filter(|part| !part.contains(" [internal] "))
            .map(unnumbered)
            .collect();
        format!("{before}--- stderr\n{}", parts.join("\n\n"))
    }

    /// The same of a table, whose columns are as wide as what was replaced.
    fn shown_table(&self, arguments: &[&str]) -> String {
        unaligned(&self.shown(arguments))
    }

    /// The same with a registry; `REG` stands for it.
    fn shown_with(&self, registry: &Registry, arguments: &[&str]) -> String {
        let host = registry.host();
        let arguments: Vec<String> =
            arguments.iter().map(|word| word.replace("REG", &host)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.shown(&arguments).replace(&host, "REG")
    }
}

/// `#3 DONE` as `# DONE`, and `#3 0.012 text` of a command as `# text`.
fn unnumbered(part: &str) -> String {
    let line = |line: &str| {
        let Some((number, text)) = line.split_once(' ') else { return line.to_owned() };
        if !number.starts_with('#') {
            return line.to_owned();
        }
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let text = if first.parse::<f64>().is_ok() { rest } else { text };
        format!("# {text}")
    };
    part.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// JSON for people, its times and sizes as 0.
fn masked(line: &str) -> String {
    fn mask(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    if key.ends_with("_ms") || key.ends_with("_bytes") {
                        *member = Value::from(0);
                    }
                    mask(member);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(mask),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(line).unwrap();
    mask(&mut value);
    format!("{value:#}\n")
}

/// Names of all commands that do something themselves: `build`, `history ls`.
fn commands() -> Vec<String> {
    fn below(project: &Project, words: &[&str]) -> Vec<String> {
        let help = project.kiln(&[words, &["-h"]].concat()).expect_code(0).stdout();
        let list = help.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
        let Some(list) = list else { return vec![words.join(" ")] };
        // Lines that go on are indented further.
        let names = list.lines().filter_map(|line| line.strip_prefix("  "));
        let names = names.filter(|line| !line.starts_with(' '));
        let names = names.filter_map(|line| line.split(' ').next());
        names.flat_map(|name| below(project, &[words, &[name]].concat())).collect()
    }
    below(&Project::new(""), &[])
}

#[test]
fn every_command_is_shown() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/commands");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let sources: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        for part in ["output", "error"] {
            let test = format!("#[test]\nfn {}_{part}() {{", command.replace(' ', "_"));
            let Some((_, rest)) = sources.split_once(&test) else {
                panic!("`kiln {command}` has no test of its {part}: `{test}`");
            };
            let body = rest.split("\n}\n").next().unwrap_or_default();
            assert!(body.contains("assert_snapshot!("), "{test} shows nothing");
        }
    }
}

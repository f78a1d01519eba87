//! Files of requirements: what they include, what they name, and the directories of the project among
//! that (`-e .`), which are no distributions of an index.
//!
//! Such a line can't be installed as it stands: in the image the sources are not there yet, and an
//! editable installation would point to where they were. uv is handed the file without it; the project's
//! dependencies come from its own manifest, and other directories are installed as they are.

use std::fmt::Write as _;

use serde::Serialize;

use super::manifest::normal;
use super::sources::Sources;

/// A requirement that is a directory: `-e .[cli]`, `./libs/shared`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Directory {
    /// The directory, below the project's; empty: the project itself.
    pub(crate) path: String,
    /// Its extras.
    pub(crate) extras: Vec<String>,
}

impl Directory {
    /// The argument that installs it as it is.
    pub(crate) fn word(&self) -> String {
        let extras = self.extras.join(",");
        let extras = if extras.is_empty() { extras } else { format!("[{extras}]") };
        format!("./{}{extras}", self.path)
    }
}

/// A file of requirements with those that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// The file itself first.
    pub(crate) files: Vec<String>,
    /// What the first of them names of the project's directories.
    pub(crate) directories: Vec<Directory>,
}

/// Lines of a file that name a directory, as `grep -E` finds them.
const DIRECTORY_LINES: &str = r"^ *(-e|--editable)?[ =]*\.";
/// Distributions that nobody runs in production.
const TOOLS: [&str; 12] = [
    "pytest",
    "ruff",
    "mypy",
    "black",
    "flake8",
    "coverage",
    "tox",
    "nox",
    "sphinx",
    "mkdocs",
    "twine",
    "pre-commit",
];

impl Requirements {
    /// The file of that name, if it is there.
    pub(crate) fn read(file: &str, sources: &Sources) -> Self {
        let text = sources.text(file).unwrap_or_default();
        Self {
            files: included(file, sources),
            directories: text
                .lines()
                .filter_map(directory)
                .filter(|directory| {
                    directory.path.is_empty() || sources.has_directory(&directory.path)
                })
                .collect(),
        }
    }

    /// What is installed: the file, which may include others.
    pub(crate) fn first(&self) -> Option<&str> {
        self.files.first().map(String::as_str)
    }

    /// The requirements of all files: no options, no comments, no directories.
    pub(crate) fn lines<'a>(&'a self, sources: &'a Sources) -> impl Iterator<Item = &'a str> {
        let texts = self.files.iter().filter_map(|file| sources.text(file));
        texts
            .flat_map(str::lines)
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '-', '.']))
    }

    /// Whether the file is an environment to work on the project in: it installs the project itself,
    /// and tools beside it.
    pub(crate) fn is_for_development(&self, sources: &Sources) -> bool {
        let has_tool = || self.lines(sources).any(|line| TOOLS.contains(&normal(line).as_str()));
        self.itself().is_some() && has_tool()
    }

    /// The project itself, where the file names it.
    pub(crate) fn itself(&self) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.path.is_empty())
    }

    /// The command that gives the file without the lines that name directories, for a pipe; `None`: it has
    /// none.
    pub(crate) fn without_directories(&self) -> Option<String> {
        let first = self.first().filter(|_| !self.directories.is_empty())?;
        let mut command = format!("grep -vE '{DIRECTORY_LINES}' {first} | ");
        // What a file includes stands beside it; standard input stands at the top.
        if let Some((directory, _)) = first.rsplit_once('/') {
            let _ = write!(command, r"sed -E 's,^(-[rc]|--[a-z]+) *,&{directory}/,' | ");
        }
        Some(command)
    }
}

/// The directory that a line names.
fn directory(line: &str) -> Option<Directory> {
    let line = line.split(" #").next().unwrap_or(line).trim();
    let rest = ["-e", "--editable"].iter().find_map(|flag| line.strip_prefix(flag));
    let place = rest.unwrap_or(line).trim_start_matches([' ', '=']);
    if !place.starts_with('.') {
        return None;
    }
    let (path, extras) = match place.split_once('[') {
        Some((path, rest)) => (path, rest.split(']').next().unwrap_or_default()),
        None => (place.split([' ', ';']).next().unwrap_or(place), ""),
    };
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let extras = extras.split(',').map(normal).filter(|extra| !extra.is_empty());
    (!path.starts_with("..")).then(|| Directory {
        path: if path == "." { String::new() } else { path.to_owned() },
        extras: extras.collect(),
    })
}

/// A file of requirements and those that it includes (`-r`, `-c`), the file itself first.
fn included(file: &str, sources: &Sources) -> Vec<String> {
    let mut files = vec![file.to_owned()];
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        for line in sources.text(&file).unwrap_or_default().lines() {
            let flags = ["-r", "--requirement", "-c", "--constraint"];
            let Some(rest) = flags.iter().find_map(|flag| line.trim().strip_prefix(flag)) else {
                continue;
            };
            let name =
                rest.trim_start_matches(['=', ' ']).split('#').next().unwrap_or_default().trim();
            let path = joined(directory, name);
            if sources.has(&path) && !files.contains(&path) {
                files.push(path);
            }
        }
    }
    files
}

/// A path beside a directory's files, without `.` and `..`.
fn joined(directory: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Requirements {
        let sources = Sources::of(&[("requirements.txt", text), ("libs/shared/setup.py", "")]);
        Requirements::read("requirements.txt", &sources)
    }

    #[test]
    fn directories_are_told_from_distributions() {
        let found = |line: &str| {
            let directories = read(line).directories;
            directories
                .iter()
                .map(|l| format!("{:?} {}", l.path, l.extras.join("+")))
                .collect::<String>()
        };
        for (line, expected) in [
            ("-e .", "\"\" "),
            ("--editable=.[full, Dev_X]  # all", "\"\" full+dev-x"),
            (".", "\"\" "),
            (".[cli]; python_version > '3'", "\"\" cli"),
            ("-e ./libs/shared/", "\"libs/shared\" "),
            ("./libs/shared[x]", "\"libs/shared\" x"),
            ("-e ../other", ""),
            ("-e ./gone", ""),
            ("-e git+https://host/x.git#egg=x", ""),
            ("flask==3.0", ""),
            ("# -e .", ""),
        ] {
            assert_eq!(found(line), expected, "{line}");
        }
    }

    #[test]
    fn files_include_files_beside_them() {
        let sources = Sources::of(&[
            (
                "requirements/dev.txt",
                "-r base.txt\n-c ../constraints.txt\n--requirement=./more.txt # x\n-r gone.txt",
            ),
            ("requirements/base.txt", "-r dev.txt\n"),
            ("requirements/more.txt", ""),
            ("constraints.txt", ""),
        ]);
        let found = Requirements::read("requirements/dev.txt", &sources);
        let expected = [
            "requirements/dev.txt",
            "requirements/base.txt",
            "constraints.txt",
            "requirements/more.txt",
        ];
        assert_eq!(found.files, expected);
    }

    #[test]
    fn lines_of_directories_are_not_handed_on() {
        assert_eq!(read("six\n").without_directories(), None);
        insta::assert_snapshot!(
            read("-e .[full]\nsix\n").without_directories().unwrap(),
            @r"grep -vE '^ *(-e|--editable)?[ =]*\.' requirements.txt | "
        );
        let sources = Sources::of(&[("requirements/dev.txt", "-e .\n-r base.txt\n")]);
        insta::assert_snapshot!(
            Requirements::read("requirements/dev.txt", &sources).without_directories().unwrap(),
            @r"grep -vE '^ *(-e|--editable)?[ =]*\.' requirements/dev.txt | sed -E 's,^(-[rc]|--[a-z]+) *,&requirements/,' | "
        );
    }
}

//! The user's project: a copy of its context, in which edits are made.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kiln_core::benchmark::Scenario;
use kiln_core::benchmark::edits::{self, Line};
use kiln_core::benchmark::takers::Takers;
use kiln_core::dockerfile::parse;
use kiln_engine::{BuildRequest, context_files};
use kiln_store::{ContextEntry, EntryKind};

use crate::failure::Failure;
use crate::render::progress::one_line;
use crate::render::report::without_flags;
use crate::render::text::truncate;

/// Files of the context's root that a build reads although they may be ignored.
const READ_ANYWAY: [&str; 2] = [".dockerignore", "kiln.lock"];

/// Columns of an instruction.
const INSTRUCTION_COLUMNS: usize = 60;

/// A copy of a context.
#[derive(Debug)]
pub(super) struct Project {
    /// Where the copy is.
    pub(super) copy: PathBuf,
    /// Kiln's store, which is no part of a context.
    store: PathBuf,
    /// What is edited, and what was there.
    edits: Vec<(Scenario, Edit)>,
}

/// A file that is edited.
#[derive(Debug)]
pub(super) struct Edit {
    /// In the context.
    pub(super) path: String,
    /// The step that takes it before all others, as progress shows it; `None` if that is not known.
    pub(super) taker: Option<String>,
    line: Line,
    text: Vec<u8>,
}

/// What edits are, for people: those that are alike in one breath.
pub(super) fn shown<'a>(edits: impl Iterator<Item = &'a Edit>) -> String {
    let mut groups: Vec<(&Edit, Vec<&str>)> = Vec::new();
    for edit in edits {
        let is_alike = |known: &Edit| (&known.taker, known.line) == (&edit.taker, edit.line);
        match groups.iter_mut().find(|(known, _)| is_alike(known)) {
            Some((_, paths)) => paths.push(&edit.path),
            None => groups.push((edit, vec![&edit.path])),
        }
    }
    let group = |(edit, paths): &(&Edit, Vec<&str>)| {
        let taker =
            edit.taker.as_ref().map(|taker| format!(", taken first by {}", instruction(taker)));
        format!("{} in {}{}", edit.line.name(), paths.join(" and "), taker.unwrap_or_default())
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

/// `[app 2/5] RUN --mount=… uv sync` is `RUN uv sync (app)`.
fn instruction(step: &str) -> String {
    let text = step.split_once("] ").map_or(step, |(_, text)| text);
    let text = truncate(&without_flags(&one_line(text)), INSTRUCTION_COLUMNS);
    match kiln_core::report::stage(step) {
        "" => text,
        stage => format!("{text} ({stage})"),
    }
}

impl Project {
    /// Copies the context of a request, without the store, to a directory that is not there.
    pub(super) fn copy(
        request: &BuildRequest,
        store: PathBuf,
        copy: PathBuf,
    ) -> Result<Self, Failure> {
        let root = &request.context;
        let entries = context_files(request, &store)
            .map_err(|error| crate::session::build_failure(error, &request.dockerfile))?;
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |error| Failure::file("copy", path, error)
        };
        fs::create_dir(&copy).map_err(wrong(&copy))?;
        for entry in &entries {
            let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
            copy_entry(entry, &root.join(path), &copy.join(path))
                .map_err(wrong(&root.join(path)))?;
        }
        for name in READ_ANYWAY {
            let (own, target) = (root.join(name), copy.join(name));
            if own.is_file() && !target.exists() {
                fs::copy(&own, &target).map_err(wrong(&own))?;
            }
        }
        Ok(Self { copy, store, edits: Vec::new() })
    }

    /// Chooses what is edited in a scenario, or takes what was named. Empty if nothing is found.
    pub(super) fn choose(
        &mut self,
        scenario: Scenario,
        named: &[String],
        request: &BuildRequest,
    ) -> Result<(), Failure> {
        let entries = context_files(request, &self.store)
            .map_err(|error| crate::session::build_failure(error, &request.dockerfile))?;
        let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let paths: Vec<&str> =
            files.filter_map(|entry| std::str::from_utf8(&entry.path).ok()).collect();
        let takers = Takers::of(&parse(&request.dockerfile).0, &request.plan);
        let chosen: Vec<String> = match scenario {
            _ if !named.is_empty() => named
                .iter()
                .map(|name| in_context(name, &request.context))
                .collect::<Result<_, _>>()?,
            Scenario::SourceEdit => {
                edits::source(&paths, &takers).map(str::to_owned).into_iter().collect()
            }
            _ => edits::dependencies(&paths, &takers).into_iter().map(str::to_owned).collect(),
        };
        for path in chosen {
            if !paths.contains(&path.as_str()) {
                let message = format!("`{path}` is no file of the context");
                return Err(Failure::usage(message).with_help(
                    "`.dockerignore` may leave it out; paths are those of the context",
                ));
            }
            let file = self.copy.join(&path);
            let text = fs::read(&file).map_err(|error| Failure::file("read", &file, error))?;
            if text.contains(&0) {
                return Err(Failure::usage(format!("`{path}` is no text: it can't be edited")));
            }
            let taker = takers.first(&path).map(|taker| taker.name.clone());
            let line = Line::of(&path);
            self.edits.push((scenario, Edit { path, taker, line, text }));
        }
        Ok(())
    }

    /// What is edited in a scenario.
    pub(super) fn edits(&self, scenario: Scenario) -> impl Iterator<Item = &Edit> {
        self.edits.iter().filter(move |(of, _)| *of == scenario).map(|(_, edit)| edit)
    }

    /// Edits: no build has seen what the files hold then, if the mark is new.
    pub(super) fn edit(&self, scenario: Scenario, mark: u64) -> Result<(), Failure> {
        for edit in self.edits(scenario) {
            let path = self.copy.join(&edit.path);
            fs::write(&path, edit.line.added(&edit.text, mark))
                .map_err(|error| Failure::file("write", path, error))?;
        }
        Ok(())
    }
}

/// A path as the user wrote it, as one of the context.
fn in_context(name: &str, context: &Path) -> Result<String, Failure> {
    let path = Path::new(name);
    if context.join(path).is_file() && path.is_relative() {
        return Ok(name.strip_prefix("./").unwrap_or(name).to_owned());
    }
    let absolute =
        |path: &Path| fs::canonicalize(path).map_err(|error| Failure::file("open", path, error));
    let (file, root) = (absolute(path)?, absolute(context)?);
    match file.strip_prefix(&root).ok().and_then(Path::to_str) {
        Some(inside) => Ok(inside.to_owned()),
        None => Err(Failure::usage(format!("`{name}` is not in the context"))),
    }
}

fn copy_entry(entry: &ContextEntry, from: &Path, to: &Path) -> std::io::Result<()> {
    match &entry.kind {
        EntryKind::Directory => {
            fs::create_dir(to)?;
            // Its owner writes into it, whatever the user's own says.
            fs::set_permissions(to, fs::Permissions::from_mode(entry.mode | 0o700))
        }
        EntryKind::File => {
            fs::copy(from, to)?;
            let times = fs::FileTimes::new().set_modified(fs::metadata(from)?.modified()?);
            // A file that nobody may write is edited all the same.
            fs::set_permissions(to, fs::Permissions::from_mode(entry.mode | 0o200))?;
            fs::File::options().write(true).open(to)?.set_times(times)
        }
        EntryKind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), to),
        // Nothing of these can be built.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::options::BuildOptions;
    use crate::config::Config;

    fn request(context: &Path) -> BuildRequest {
        let context = context.display().to_string();
        BuildOptions::default().request(&context, &Config::default()).unwrap()
    }

    fn failed(project: &mut Project, name: &str, request: &BuildRequest) -> String {
        let named = [name.to_owned()];
        project.choose(Scenario::SourceEdit, &named, request).unwrap_err().to_string()
    }

    #[test]
    fn edits_are_told_together() {
        let edit = |path: &str, taker: Option<&str>| Edit {
            path: path.to_owned(),
            taker: taker.map(str::to_owned),
            line: Line::of(path),
            text: Vec::new(),
        };
        let sync = "[deps 2/12] RUN --mount=type=cache,target=/c uv sync";
        let edits = [edit("a.toml", Some(sync)), edit("b.json", None), edit("a.lock", Some(sync))];
        assert_eq!(
            shown(edits.iter()),
            "a comment in a.toml and a.lock, taken first by RUN uv sync (deps); \
             a line of blanks in b.json"
        );
    }

    #[test]
    fn edits_are_made_in_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("app");
        let write = |name: &str, text: &[u8]| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Dockerfile", b"FROM scratch\nCOPY requirements.txt /\nCOPY src /src\n");
        write(".dockerignore", b"*\n!src\n!requirements.txt\nsrc/old\n");
        write("requirements.txt", b"flask\n");
        write("src/app.py", b"x = 1\n");
        write("src/image.png", b"\0\0");
        write("src/old/app.py", b"");
        write("secret", b"");
        symlink("app.py", root.join("src/link")).unwrap();
        fs::set_permissions(root.join("src/app.py"), fs::Permissions::from_mode(0o555)).unwrap();

        let request = request(&root);
        fs::create_dir(root.join("src/store")).unwrap();
        write("src/store/db.sqlite", b"");
        let store = root.join("src/store");
        let mut project = Project::copy(&request, store, directory.path().join("copy")).unwrap();
        assert_eq!(fs::read_link(project.copy.join("src/link")).unwrap(), Path::new("app.py"));
        let is_there = |name: &str| project.copy.join(name).exists();
        assert!(is_there("src/app.py") && is_there(".dockerignore"));
        assert!(!is_there("src/old/app.py") && !is_there("secret") && !is_there("src/store"));

        for scenario in [Scenario::SourceEdit, Scenario::DependencyEdit] {
            project.choose(scenario, &[], &request).unwrap();
        }
        let text = |scenario| shown(project.edits(scenario));
        assert_eq!(
            text(Scenario::SourceEdit),
            "a comment in src/app.py, taken first by COPY src /src"
        );
        assert_eq!(
            text(Scenario::DependencyEdit),
            "a comment in requirements.txt, taken first by COPY requirements.txt /"
        );
        for mark in [1, 2] {
            project.edit(Scenario::SourceEdit, mark).unwrap();
        }
        let text = fs::read_to_string(project.copy.join("src/app.py")).unwrap();
        assert_eq!(text, "x = 1\n# kiln bench 2\n", "each edit is one of what the user has");
        assert_eq!(fs::read_to_string(root.join("src/app.py")).unwrap(), "x = 1\n");

        assert_eq!(
            failed(&mut project, "src/old/app.py", &request),
            "`src/old/app.py` is no file of the context"
        );
        assert_eq!(
            failed(&mut project, "src/image.png", &request),
            "`src/image.png` is no text: it can't be edited"
        );
        assert_eq!(
            failed(&mut project, "/etc/passwd", &request),
            "`/etc/passwd` is not in the context"
        );
        let named = [root.join("src/app.py").display().to_string()];
        project.choose(Scenario::DependencyEdit, &named, &request).unwrap();
        assert_eq!(project.edits(Scenario::DependencyEdit).count(), 2);
    }
}

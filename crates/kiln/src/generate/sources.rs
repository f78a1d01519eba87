//! What a project holds: its paths, and the texts of those files that say what it is.
//!
//! Read once; all that looks at it afterwards is pure. Not looked into: what is hidden, environments,
//! caches, results of builds, files of more than [`MOST_BYTES`], and directories deeper than
//! [`DEEPEST`].

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use kiln_core::glob::Glob;

/// Longer files are no source that says what a project is; locks are read whole.
const MOST_BYTES: u64 = 512 * 1024;
/// The deepest directory that is looked into.
const DEEPEST: usize = 8;
/// No more files than these are looked at.
const MOST_FILES: usize = 20_000;
/// Directories that hold nothing of the project's own.
const PASSED_OVER: [&str; 12] = [
    "node_modules",
    "__pycache__",
    "venv",
    "env",
    "virtualenv",
    "build",
    "dist",
    "site",
    "htmlcov",
    "target",
    "vendor",
    "site-packages",
];
/// Hidden files that matter.
const HIDDEN: [&str; 3] = [".python-version", ".gitlab-ci.yml", ".gitignore"];

/// The files of a project below its directory, with the texts that matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Paths with `/`; the text where it was read.
    files: BTreeMap<String, Option<String>>,
}

impl Sources {
    /// Reads the directory of a project.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut sources = Self::default();
        sources.walk(directory, "", 0)?;
        Ok(sources)
    }

    /// A project made of paths and texts.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())));
        Self { files: files.collect() }
    }

    fn walk(&mut self, directory: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        let mut entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            let path = format!("{prefix}{name}");
            if self.files.len() >= MOST_FILES {
                return Ok(());
            }
            if kind.is_dir() {
                let is_other = name.starts_with('.')
                    || PASSED_OVER.contains(&name.as_str())
                    || name.ends_with(".egg-info")
                    || entry.path().join("pyvenv.cfg").exists();
                if !is_other && depth < DEEPEST {
                    self.walk(&entry.path(), &format!("{path}/"), depth + 1)?;
                }
            } else if !name.starts_with('.') || HIDDEN.contains(&name.as_str()) {
                let text =
                    if is_text_of_interest(&path) { read_text(&entry.path())? } else { None };
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// Whether there is a file of this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether there is a directory of this path that holds a file.
    pub(crate) fn has_directory(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }

    /// The text of a file, if it is there and was read.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// The paths below a directory.
    pub(crate) fn below(&self, directory: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{directory}/");
        let from = self.files.range(prefix.clone()..);
        from.map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(&prefix))
    }

    /// Databases that belong to the project: git does not ignore them. Without a `.gitignore` nobody knows.
    pub(crate) fn databases(&self) -> Vec<String> {
        let Some(ignored) = self.text(".gitignore") else { return Vec::new() };
        let lines = ignored.lines().map(|line| line.trim().trim_start_matches('/'));
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        let globs: Vec<Glob> =
            lines.filter_map(|line| Glob::ignore(&format!("**/{line}")).ok()).collect();
        // At the top alone: there `.dockerignore` speaks of them.
        let at_top = self.paths().filter(|path| !path.contains('/'));
        at_top
            .filter(|path| {
                Path::new(path).extension().is_some_and(|e| e == "db" || e == "sqlite3")
                    && !globs.iter().any(|glob| glob.matches(path))
            })
            .map(str::to_owned)
            .collect()
    }

    /// All paths, in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Python's files with their texts.
    pub(crate) fn python(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().filter(|(path, _)| is_python(path));
        files.filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }
}

/// Whether a file is Python's, by its name.
pub(crate) fn is_python(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|ending| ending == "py")
}

fn is_text_of_interest(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_requirements = Path::new(path).extension().is_some_and(|e| e == "txt" || e == "in")
        && path.contains("requirements");
    is_python(path)
        || is_requirements
        || matches!(
            name,
            "pyproject.toml"
                | "uv.lock"
                | "poetry.lock"
                | "setup.cfg"
                | "pytest.ini"
                | "tox.ini"
                | ".python-version"
                | ".gitignore"
                | "Makefile"
        )
}

fn read_text(path: &Path) -> io::Result<Option<String>> {
    let is_lock = path.extension().is_some_and(|ending| ending == "lock");
    let Ok(metadata) = path.metadata() else { return Ok(None) };
    if !metadata.is_file() || (metadata.len() > MOST_BYTES && !is_lock) {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&std::fs::read(path)?).into_owned()))
}

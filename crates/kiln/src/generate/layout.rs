//! Where a project's sources are, and whether they are a package that is built or files that are
//! copied.

use std::collections::BTreeSet;

use serde::Serialize;

use super::application::{self, Object};
use super::manifest::{Manifest, normal};
use super::sources::{Sources, is_python};
use super::workspace::Workspace;

/// Where the sources are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Layout {
    /// Whether they are built and installed; else they are copied.
    pub(crate) is_package: bool,
    /// What a build of the package reads, or what is copied: files and directories of the project.
    pub(crate) paths: Vec<String>,
    /// Of these, where the sources are: what an editor changes.
    pub(crate) sources: Vec<String>,
    /// The directory that modules are imported from: `src`, or nothing.
    pub(crate) root: String,
    #[serde(skip)]
    pub(crate) why: String,
}

/// Directories that nothing in production reads.
const NOT_RUN: [&str; 22] = [
    "tests",
    "test",
    "docs",
    "doc",
    "docs_src",
    "examples",
    "example",
    "samples",
    "benchmarks",
    "notebooks",
    "requirements",
    "k8s",
    "kubernetes",
    "helm",
    "charts",
    "terraform",
    "infra",
    "deploy",
    "deployment",
    "docker",
    "logs",
    "screenshots",
];
/// Files of tools, not of the program.
const NOT_RUN_FILES: [&str; 22] = [
    "setup.py",
    "conftest.py",
    "noxfile.py",
    "fabfile.py",
    "tasks.py.in",
    "tox.ini",
    "pytest.ini",
    "mypy.ini",
    "package.json",
    "package-lock.json",
    "mkdocs.yml",
    "codecov.yml",
    "readthedocs.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yml",
    "compose.yaml",
    "environment.yml",
    "pyrightconfig.json",
    "renovate.json",
    "app.json",
    "cloudbuild.yaml",
];
/// Endings of files at the top that a program may read.
const READ: [&str; 9] = ["py", "ini", "json", "yaml", "yml", "sql", "conf", "html", "csv"];

impl Layout {
    /// The sources in a few words.
    pub(crate) fn said(&self) -> String {
        let first: Vec<&str> = self.sources.iter().take(4).map(String::as_str).collect();
        let more = if self.sources.len() > 4 { " …" } else { "" };
        format!("{}{more}", first.join(" "))
    }
}

/// Whether there is a file of Python's below a directory.
pub(crate) fn is_python_below(sources: &Sources, directory: &str) -> bool {
    sources.below(directory).any(is_python)
}

/// The directories that modules are imported from, the likelier first, those of members before them.
pub(crate) fn roots(sources: &Sources, workspace: &Workspace) -> Vec<String> {
    let mut all: Vec<String> = workspace.members.iter().map(|member| member.root.clone()).collect();
    all.extend(own_roots(sources));
    all
}

/// Django's `manage.py`: at the top, else in `src`, else in another directory at the top.
pub(crate) fn manage(sources: &Sources) -> Option<&str> {
    let is_one = |path: &&str| {
        path.ends_with("/manage.py") && path.matches('/').count() == 1 && application::is_own(path)
    };
    let usual = ["manage.py", "src/manage.py"].into_iter().find(|path| sources.has(path));
    usual.or_else(|| sources.paths().find(is_one))
}

fn own_roots(sources: &Sources) -> Vec<String> {
    if let Some((directory, _)) = manage(sources).and_then(|path| path.rsplit_once('/')) {
        return vec![directory.to_owned(), String::new()];
    }
    let has_python = is_python_below(sources, "src");
    let is_imported = sources.python().any(|(_, text)| {
        text.lines().map(str::trim_start).any(|line| {
            ["from src.", "from src ", "import src.", "import src "]
                .iter()
                .any(|start| line.starts_with(start))
                || line == "import src"
        })
    });
    if has_python && !is_imported && !sources.has("src/__init__.py") {
        vec!["src".to_owned(), String::new()]
    } else {
        vec![String::new()]
    }
}

/// The layout of a project whose applications are those `objects`.
pub(crate) fn find(sources: &Sources, manifest: &Manifest, objects: &[&Object]) -> Layout {
    let root = own_roots(sources).first().cloned().unwrap_or_default();
    let members = &manifest.workspace.members;
    let is_members =
        |path: &str| members.iter().any(|member| path.starts_with(&format!("{}/", member.path)));
    if let Some(package) = manifest.build.as_ref().and_then(|_| package(sources, manifest)) {
        let holds = |path: &str| path == package || path.starts_with(&format!("{package}/"));
        let top = match package.strip_prefix("src/") {
            Some(_) => "src".to_owned(),
            None => package.clone(),
        };
        let is_whole = objects.iter().all(|object| {
            holds(&object.path)
                || object.path.starts_with(&format!("{top}/"))
                || is_members(&object.path)
        });
        if is_whole && manage(sources).is_none() {
            let backend =
                manifest.build.as_ref().map(|build| build.module.as_str()).unwrap_or_default();
            let backend = backend.split(['.', ':']).next().unwrap_or_default();
            let mut paths = manifest.build_files.clone();
            paths.retain(|path| !path.starts_with(&format!("{top}/")));
            paths.push(top.clone());
            return Layout {
                is_package: true,
                paths,
                sources: vec![top],
                root,
                why: format!("{package} is a package, built by {backend}"),
            };
        }
    }
    let mut paths = copied(sources);
    let has_other = |path: &String| {
        !sources.has_directory(path) || sources.below(path).any(|file| !is_members(file))
    };
    paths.retain(has_other);
    Layout {
        is_package: false,
        sources: paths.clone(),
        paths,
        root,
        why: "no package that is built: the files are copied".to_owned(),
    }
}

/// The directory or file of the package that is built.
fn package(sources: &Sources, manifest: &Manifest) -> Option<String> {
    let named = manifest.packages.iter().find(|path| sources.has_directory(path)).cloned();
    let name = normal(manifest.name.as_deref().unwrap_or_default()).replace('-', "_");
    let usual = [format!("src/{name}"), name.clone()].into_iter().filter(|_| !name.is_empty());
    let by_name = usual.clone().find(|path| sources.below(path).any(is_python));
    let by_file = || usual.map(|path| format!("{path}.py")).find(|path| sources.has(path));
    let only_one = || {
        let inner: BTreeSet<&str> = sources
            .below("src")
            .filter(|path| path.ends_with("/__init__.py") && path.matches('/').count() == 2)
            .filter_map(|path| path.strip_suffix("/__init__.py"))
            .collect();
        inner.first().map(|path| (*path).to_owned())
    };
    named.or(by_name).or_else(by_file).or_else(only_one)
}

/// What production reads, where nothing is built: directories and files at the top.
fn copied(sources: &Sources) -> Vec<String> {
    let mut found = BTreeSet::new();
    for path in sources.paths() {
        match path.split_once('/') {
            Some((directory, _)) if !NOT_RUN.contains(&directory) => {
                found.insert(directory.to_owned());
            }
            Some(_) => {}
            None => {
                let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
                let is_test =
                    path.starts_with("test_") || path.ends_with("_test.py") || path == "tests.py";
                if READ.contains(&ending)
                    && !NOT_RUN_FILES.contains(&path)
                    && !is_test
                    && !path.starts_with('.')
                {
                    found.insert(path.to_owned());
                }
            }
        }
    }
    found.extend(sources.databases());
    found.into_iter().filter(|path| !path.starts_with("docker-compose")).collect()
}

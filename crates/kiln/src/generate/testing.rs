//! How a project is tested.

use serde::Serialize;

use super::application::{self, Framework};
use super::layout::{self, Layout};
use super::manifest::Manifest;
use super::project::ends_with;
use super::settings::Setting;
use super::sources::{Sources, is_python};

/// How a project is tested.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Testing {
    /// What runs the tests.
    pub(crate) command: Vec<String>,
    /// What is not among the dependencies of development.
    pub(crate) missing: Vec<String>,
    /// Whether they call git.
    #[serde(skip)]
    pub(crate) needs_git: bool,
    /// Secrets that the sources ask for and the tests do not set: they get a value for tests.
    pub(crate) secrets: Vec<String>,
    /// Commands of the linters that the project has.
    pub(crate) linters: Vec<String>,
    #[serde(skip)]
    pub(crate) why: String,
}

/// The tests of a project, if it has any.
pub(crate) fn find(
    sources: &Sources,
    manifest: &Manifest,
    framework: Option<Framework>,
    layout: &Layout,
    settings: &[Setting],
) -> Option<Testing> {
    let files: Vec<(&str, &str)> = sources.python().filter(|(path, _)| is_test(path)).collect();
    let (first, _) = files.first()?;
    let uses_pytest = files
        .iter()
        .any(|(_, text)| text.contains("import pytest") || text.contains("from pytest"));
    let uses_unittest = files.iter().any(|(_, text)| {
        text.contains("import unittest") || text.contains("from unittest import TestCase")
    });
    let mut missing = Vec::new();
    let secrets = secrets(sources, settings);
    let is_django = framework == Some(Framework::Django);
    let manage = layout::manage(sources).unwrap_or("manage.py");
    let django = match manage.rsplit_once('/') {
        Some((directory, _)) => vec!["python", manage, "test", directory],
        None => vec!["python", manage, "test"],
    };
    let (command, runner): (&[&str], &str) = if is_django && !manifest.has("pytest-django") {
        (&django, "Django runs them")
    } else if manifest.installed.iter().any(|name| name == "pytest" || name.starts_with("pytest-"))
    {
        (&["pytest"], "pytest is among the dependencies")
    } else if uses_unittest && !uses_pytest {
        (&["python", "-m", "unittest", "discover"], "they are unittest's")
    } else {
        missing.push("pytest".to_owned());
        (&["pytest"], "pytest, which is not among the dependencies, is added")
    };
    // A client of Starlette's for tests needs what FastAPI itself does not.
    let uses_client = files.iter().any(|(_, text)| text.contains("testclient"));
    if uses_client && !manifest.has("httpx") && !manifest.has("fastapi[standard]") {
        missing.push("httpx".to_owned());
    }
    Some(Testing {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        missing,
        needs_git: needs_git(sources),
        secrets,
        linters: linters(sources, manifest, layout),
        why: format!("{first}; {runner}"),
    })
}

/// Whether tests, or what stands beside them, name the program git.
fn needs_git(sources: &Sources) -> bool {
    let mut texts = sources.python().filter(|(path, _)| !application::is_own(path));
    texts.any(|(_, text)| text.contains("\"git\"") || text.contains("'git'"))
}

/// Required settings whose names speak of secrets, and of which neither tests nor their settings speak.
fn secrets(sources: &Sources, settings: &[Setting]) -> Vec<String> {
    let ends = ["SECRET", "SECRET_KEY", "KEY", "TOKEN", "PASSWORD", "SALT"];
    let speaks = |path: &str| {
        !application::is_own(path)
            || matches!(path, "pyproject.toml" | "setup.cfg" | "pytest.ini" | "tox.ini")
    };
    let texts: Vec<&str> =
        sources.paths().filter(|path| speaks(path)).filter_map(|path| sources.text(path)).collect();
    let required = settings.iter().filter(|setting| setting.default.is_none());
    required
        .filter(|setting| ends_with(setting, &ends))
        .filter(|setting| !texts.iter().any(|text| text.contains(&setting.name)))
        .map(|setting| setting.name.clone())
        .collect()
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name != "conftest.py"
        && (name.starts_with("test_") || name.ends_with("_test.py") || name == "tests.py")
}

/// The linters that a project has set up, and what they look at.
fn linters(sources: &Sources, manifest: &Manifest, layout: &Layout) -> Vec<String> {
    let own: Vec<&str> = layout
        .sources
        .iter()
        .map(String::as_str)
        .filter(|p| sources.has_directory(p) || is_python(p))
        .collect();
    let tests = ["tests", "test"].into_iter().filter(|path| sources.has_directory(path));
    let paths = own.iter().copied().chain(tests).collect::<Vec<_>>().join(" ");
    // What only the lock names, or a group that is not installed, is not there.
    let has = |name: &str| manifest.installed.contains(name);
    let mut found = Vec::new();
    if has("ruff") {
        found.push(format!("ruff check {paths}"));
        if !has("black") {
            found.push(format!("ruff format --check {paths}"));
        }
    }
    // Beside ruff and without settings it is there for something else.
    if has("black") && (manifest.tools.contains("black") || !has("ruff")) {
        found.push(format!("black --check {paths}"));
    }
    if has("mypy") && manifest.tools.contains("mypy") {
        let names_files =
            sources.text("pyproject.toml").is_some_and(|text| text.contains("\nfiles = "));
        found.push(if names_files { "mypy".to_owned() } else { format!("mypy {}", own.join(" ")) });
    }
    found
}

//! How a project is tested.

use serde::Serialize;

use super::application::Framework;
use super::layout::Layout;
use super::manifest::Manifest;
use super::sources::{Sources, is_python};

/// How a project is tested.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Testing {
    /// What runs the tests.
    pub(crate) command: Vec<String>,
    /// What is not among the dependencies of development.
    pub(crate) missing: Vec<String>,
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
    let is_django = framework == Some(Framework::Django);
    let (command, runner): (&[&str], &str) = if is_django && !manifest.has("pytest-django") {
        (&["python", "manage.py", "test"], "Django runs them")
    } else if manifest.has("pytest") {
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
        linters: linters(sources, manifest, layout),
        why: format!("{first}; {runner}"),
    })
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name != "conftest.py"
        && (name.starts_with("test_") || name.ends_with("_test.py") || name == "tests.py")
}

/// The linters that a project has set up, and what they look at.
fn linters(sources: &Sources, manifest: &Manifest, layout: &Layout) -> Vec<String> {
    let mut paths: Vec<&str> = layout
        .sources
        .iter()
        .map(String::as_str)
        .filter(|p| sources.has_directory(p) || is_python(p))
        .collect();
    paths.extend(["tests", "test"].into_iter().filter(|path| sources.has_directory(path)));
    let paths = paths.join(" ");
    let mut found = Vec::new();
    if manifest.has("ruff") {
        found.push(format!("ruff check {paths}"));
        if !manifest.has("black") {
            found.push(format!("ruff format --check {paths}"));
        }
    }
    if manifest.has("black") {
        found.push(format!("black --check {paths}"));
    }
    if manifest.has("mypy") && manifest.tools.contains("mypy") {
        let names_files =
            sources.text("pyproject.toml").is_some_and(|text| text.contains("\nfiles = "));
        found.push(if names_files { "mypy".to_owned() } else { format!("mypy {paths}") });
    }
    found
}

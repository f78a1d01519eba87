//! Members of a uv workspace: what the project at its root is made of beside itself.
//!
//! `uv.lock` holds the dependencies of all members. The members that the root project depends on are built
//! and installed beside it; of the others only their manifests are there, which uv asks for.

use kiln_core::glob::Glob;
use serde::Serialize;
use toml::{Table, Value};

use super::layout::is_python_below;
use super::manifest::{normal, strings, table};
use super::sources::Sources;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// Its directory.
    pub(crate) path: String,
    /// The directory that its modules are imported from.
    pub(crate) root: String,
    /// Its name in normal form.
    #[serde(skip)]
    pub(crate) name: String,
    /// What its own build needs.
    #[serde(skip)]
    pub(crate) requires: Vec<String>,
    /// Whether uv itself builds it.
    #[serde(skip)]
    pub(crate) is_uv_built: bool,
    #[serde(skip)]
    needs: Vec<String>,
}

/// The members of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Workspace {
    /// Whether there is one.
    pub(crate) is_there: bool,
    /// Those that the project depends on.
    pub(crate) members: Vec<Member>,
    /// The directories of the others.
    pub(crate) others: Vec<String>,
}

impl Workspace {
    /// The workspace that a manifest names; `needs` are the distributions that its own project depends
    /// on.
    pub(crate) fn read(file: &Table, needs: &[String], sources: &Sources) -> Self {
        let settings = table(file, &["tool", "uv", "workspace"]);
        let globs = |key: &str| -> Vec<Glob> {
            let patterns = strings(settings.get(key));
            patterns.iter().filter_map(|p| Glob::path(p.trim_end_matches('/')).ok()).collect()
        };
        let (wanted, excluded) = (globs("members"), globs("exclude"));
        let is_member = |path: &str| {
            wanted.iter().any(|glob| glob.matches(path))
                && !excluded.iter().any(|glob| glob.matches(path))
        };
        let directories = sources.paths().filter_map(|path| path.strip_suffix("/pyproject.toml"));
        let all = directories.filter(|path| is_member(path));
        let mut all: Vec<Member> = all.filter_map(|path| member(path, sources)).collect();
        let mut needed: Vec<String> = needs.iter().map(|name| normal(name)).collect();
        let mut members = Vec::new();
        while let Some(at) = all.iter().position(|member| needed.contains(&member.name)) {
            let member = all.remove(at);
            needed.extend(member.needs.iter().cloned());
            members.push(member);
        }
        Self {
            is_there: settings.contains_key("members"),
            members,
            others: all.into_iter().map(|member| member.path).collect(),
        }
    }
}

fn member(path: &str, sources: &Sources) -> Option<Member> {
    let file: Table = sources.text(&format!("{path}/pyproject.toml"))?.parse().ok()?;
    let project = table(&file, &["project"]);
    let build = table(&file, &["build-system"]);
    let inner = format!("{path}/src");
    let module = build.get("build-backend").and_then(Value::as_str).unwrap_or_default();
    Some(Member {
        path: path.to_owned(),
        root: if is_python_below(sources, &inner) { inner } else { path.to_owned() },
        name: normal(project.get("name")?.as_str()?),
        requires: strings(build.get("requires")),
        is_uv_built: module == "uv_build",
        needs: strings(project.get("dependencies")).iter().map(|one| normal(one)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_those_that_the_project_needs() {
        let of = |name: &str, needs: &str| {
            format!(
                "[project]\nname = \"{name}\"\ndependencies = [{needs}]\n[build-system]\nrequires = [\"hatchling\"]\n"
            )
        };
        let (core, data, tool) =
            (of("Shop.Core", "\"shop-data>=1\""), of("shop-data", ""), of("tool", ""));
        let sources = Sources::of(&[
            ("packages/core/pyproject.toml", &core),
            ("packages/core/src/shop_core/__init__.py", ""),
            ("packages/data/pyproject.toml", &data),
            ("packages/data/shop_data.py", ""),
            ("packages/tool/pyproject.toml", &tool),
            ("packages/old/pyproject.toml", &tool),
            ("packages/none.txt", ""),
        ]);
        let file =
            "[tool.uv.workspace]\nmembers = [\"packages/*\"]\nexclude = [\"packages/old\"]\n";
        let needs = ["flask".to_owned(), "shop_core".to_owned()];
        let found = Workspace::read(&file.parse().unwrap(), &needs, &sources);
        let roots: Vec<&str> = found.members.iter().map(|member| member.root.as_str()).collect();
        assert_eq!(roots, ["packages/core/src", "packages/data"]);
        assert_eq!(found.others, ["packages/tool"]);
        assert!(found.is_there);
        assert_eq!(Workspace::read(&Table::new(), &needs, &sources), Workspace::default());
    }
}

//! What a project runs: the object of its web framework, its Celery application, its commands.
//!
//! Found in the text of its sources: an assignment (`app = FastAPI(…)`), a function that makes one
//! (`def create_app() -> FastAPI`), or an assignment that calls such a function. Nothing is run.

use serde::Serialize;

use super::manifest::Manifest;
use super::sources::Sources;

/// The framework of a web application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Framework {
    /// `FastAPI`, served by an ASGI server.
    Fastapi,
    /// Starlette, Litestar and the like, served by an ASGI server.
    Asgi,
    /// Flask, served by a WSGI server.
    Flask,
    /// Django, by its `manage.py`.
    Django,
}

/// An object in a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Object {
    /// The module, as it is imported.
    pub(crate) module: String,
    /// The object's name in it.
    pub(crate) name: String,
    /// Whether it has to be called first.
    pub(crate) is_factory: bool,
    /// The file.
    pub(crate) path: String,
}

/// Names of classes that make applications.
pub(crate) const FASTAPI: &[&str] = &["FastAPI"];
/// Other ASGI applications.
pub(crate) const ASGI: &[&str] = &["Starlette", "Litestar", "Quart", "Sanic"];
/// Flask's.
pub(crate) const FLASK: &[&str] = &["Flask", "APIFlask"];
/// Celery's.
pub(crate) const CELERY: &[&str] = &["Celery"];
/// Typer's.
pub(crate) const TYPER: &[&str] = &["Typer"];

/// File names that applications usually have, the likeliest first.
const USUAL: [&str; 12] = [
    "main",
    "app",
    "asgi",
    "wsgi",
    "api",
    "server",
    "application",
    "worker",
    "celery",
    "celery_app",
    "tasks",
    "__init__",
];

/// Whether a file is the project's own: neither a test nor an example.
pub(crate) fn is_own(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_test = name.starts_with("test_") || name.ends_with("_test.py") || name == "conftest.py";
    let mut directories = path.split('/').rev().skip(1);
    let other = |part: &str| {
        matches!(
            part,
            "tests"
                | "test"
                | "testing"
                | "docs"
                | "doc"
                | "docs_src"
                | "examples"
                | "example"
                | "samples"
                | "benchmarks"
                | "scripts"
                | "tools"
                | "migrations"
        )
    };
    !is_test && !directories.any(other)
}

/// The classes, and those of the project's own that are made of them: `class Shop(Flask)`.
fn with_own<'a>(files: &[(&str, &'a str)], classes: &[&'a str]) -> Vec<&'a str> {
    let mut all = classes.to_vec();
    let heads = files.iter().flat_map(|(_, text)| text.lines());
    for head in heads.filter_map(|line| line.strip_prefix("class ")) {
        let Some((name, rest)) = head.split_once('(') else { continue };
        let bases = rest.split([')', ',']).map(|base| base.trim().rsplit('.').next());
        if bases.flatten().any(|base| classes.contains(&base)) {
            all.push(name);
        }
    }
    all
}

/// The likeliest object of one of the classes, below the roots of imports.
pub(crate) fn find(sources: &Sources, roots: &[String], classes: &[&str]) -> Option<Object> {
    let files: Vec<(&str, &str)> = sources.python().filter(|(path, _)| is_own(path)).collect();
    let classes = &with_own(&files, classes)[..];
    let mut factories: Vec<(&str, &str)> = Vec::new();
    for (path, text) in &files {
        factories.extend(factories_of(text, classes).into_iter().map(|name| (*path, name)));
    }
    let mut candidates: Vec<(u32, Object)> = Vec::new();
    for (path, text) in &files {
        let Some(module) = module_of(path, roots) else { continue };
        let mut add = |name: &str, is_factory: bool| {
            let object = Object {
                module: module.clone(),
                name: name.to_owned(),
                is_factory,
                path: (*path).to_owned(),
            };
            candidates.push((unlikeliness(path, name, is_factory), object));
        };
        for line in text.lines() {
            let Some((name, callee)) = assignment(line) else { continue };
            let makes = classes
                .iter()
                .any(|class| callee == *class || callee.ends_with(&format!(".{class}")));
            let by_factory = factories
                .iter()
                .any(|(_, factory)| callee == *factory || callee.ends_with(&format!(".{factory}")));
            if makes || by_factory {
                add(name, false);
            }
        }
        for (_, name) in factories.iter().filter(|(file, _)| file == path) {
            if takes_nothing(text, name) {
                add(name, true);
            }
        }
    }
    candidates.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.path.cmp(&other.path)));
    candidates.into_iter().next().map(|(_, object)| object)
}

/// Lower is likelier: objects before factories, near the top before deep, usual names first.
fn unlikeliness(path: &str, name: &str, is_factory: bool) -> u32 {
    let depth = u32::try_from(path.matches('/').count()).unwrap_or(9);
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".py");
    let usual = USUAL.iter().position(|usual| *usual == stem);
    let usual = u32::try_from(usual.unwrap_or(USUAL.len())).unwrap_or(99);
    let odd_name = u32::from(!matches!(
        name,
        "app" | "application" | "api" | "celery" | "celery_app" | "create_app"
    ));
    u32::from(is_factory) * 1000 + depth * 40 + usual + odd_name * 20
}

/// `name = Callee(` at the beginning of a line, with or without an annotation.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once('=')?;
    let name = left.split(':').next()?.trim_end();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let (callee, _) = right.split_once('(')?;
    let callee = callee.trim();
    let is_path = callee.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    (is_name && is_path && !callee.is_empty()).then_some((name, callee))
}

/// Functions at the top of a module that make an object of one of the classes: annotated with it, or
/// named like a maker, with a call of it in the body.
fn factories_of<'a>(text: &'a str, classes: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (name, head, body) in functions(text) {
        let annotated = head.rsplit_once("->").is_some_and(|(_, kind)| {
            let kind = kind.trim().trim_end_matches(':').trim().trim_matches(['"', '\'']);
            classes.iter().any(|class| kind == *class || kind.ends_with(&format!(".{class}")))
        });
        let is_maker =
            ["create", "make", "get", "build", "init"].iter().any(|verb| name.starts_with(verb));
        let calls = classes.iter().any(|class| {
            body.contains(&format!("= {class}(")) || body.contains(&format!("return {class}("))
        });
        if (annotated && (is_maker || calls)) || (is_maker && calls && body.contains("return ")) {
            found.push(name);
        }
    }
    found
}

/// The functions of a module: name, head up to its colon, body.
fn functions(text: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    let starts =
        text.match_indices("def ").filter(|(at, _)| *at == 0 || text.as_bytes()[at - 1] == b'\n');
    for (at, _) in starts {
        let rest = &text[at + 4..];
        let Some(open) = rest.find('(') else { continue };
        let Some(close) = rest.find(":\n") else { continue };
        let mut end = rest.len();
        for (line_at, _) in rest[close + 2..].match_indices('\n') {
            let next = &rest[close + 2 + line_at + 1..];
            if next.starts_with(|c: char| !c.is_whitespace() && c != ')') {
                end = close + 2 + line_at + 1;
                break;
            }
        }
        found.push((rest[..open].trim(), &rest[..=close], &rest[close..end]));
    }
    found
}

/// Whether a function can be called without arguments.
fn takes_nothing(text: &str, name: &str) -> bool {
    let Some((_, head, _)) = functions(text).into_iter().find(|(known, _, _)| *known == name)
    else {
        return false;
    };
    let Some((_, parameters)) = head.split_once('(') else { return false };
    let parameters = parameters.rsplit_once(')').map_or(parameters, |(inside, _)| inside);
    let required = parameters.split(',').map(str::trim).filter(|one| {
        !one.is_empty()
            && !one.contains('=')
            && !one.starts_with('*')
            && !one.ends_with(']')
            && *one != "/"
    });
    required.count() == 0
}

/// The name that a file is imported by: `src/ares/api.py` below the root `src` is `ares.api`.
pub(crate) fn module_of(path: &str, roots: &[String]) -> Option<String> {
    let below = roots.iter().find_map(|root| match root.as_str() {
        "" => Some(path),
        root => path.strip_prefix(root)?.strip_prefix('/'),
    })?;
    let module = below.strip_suffix(".py")?.replace('/', ".");
    let module = module.strip_suffix(".__init__").unwrap_or(&module).to_owned();
    let is_name = |part: &str| {
        part.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    module.split('.').all(is_name).then_some(module)
}

/// What a project's own script starts, if that is a server: the script's name.
pub(crate) fn serving_script(
    manifest: &Manifest,
    sources: &Sources,
    roots: &[String],
) -> Option<String> {
    let serves = |text: &str| {
        ["uvicorn.run(", "hypercorn", "waitress", "gunicorn", "granian", "serve("]
            .iter()
            .any(|call| text.contains(call))
    };
    manifest.scripts.iter().find_map(|(name, target)| {
        let module = target.split(':').next()?;
        let (_, text) =
            sources.python().find(|(path, _)| module_of(path, roots).as_deref() == Some(module))?;
        serves(text).then(|| name.clone())
    })
}

/// A path that answers a probe, if the sources have one of the usual names.
pub(crate) fn health_path(sources: &Sources) -> Option<String> {
    let usual = ["/health", "/healthz", "/health/", "/healthcheck", "/livez", "/readyz", "/ping"];
    // A router may stand below a prefix; the application itself does not.
    let has = |path: &str| {
        let calls = ["app.get(", "app.route(", "application.get("];
        sources.python().filter(|(file, _)| is_own(file)).any(|(_, text)| {
            text.lines().any(|line| {
                calls.iter().any(|call| {
                    line.contains(&format!("{call}\"{path}\""))
                        || line.contains(&format!("{call}'{path}'"))
                })
            })
        })
    };
    usual.into_iter().find(|path| has(path)).map(str::to_owned)
}

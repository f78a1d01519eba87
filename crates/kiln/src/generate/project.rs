//! What kiln makes of a project: one value that all templates are filled from.

use minijinja::context;
use minijinja::value::Value;
use serde::Serialize;

use super::application::{self, Framework, Object};
use super::install::Install;
use super::layout::{self, Layout};
use super::manifest::{Backend, Manager, Manifest};
use super::python_version;
use super::serve::{self, Commands};
use super::services::{self, Services};
use super::settings::{self, Setting};
use super::sources::Sources;
use super::system::{self, Libraries};
use super::testing::{self, Testing};
use super::workspace::Workspace;

/// What a project is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It listens on a port.
    Service,
    /// It works on what a broker hands it, and listens on nothing.
    Worker,
    /// A command.
    Cli,
    /// A library.
    Package,
}

/// Celery's application.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Celery {
    /// What `celery -A` takes.
    pub(crate) app: String,
    /// Whether it has a schedule.
    pub(crate) has_beat: bool,
}

/// A finding: what was looked for, what was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked for.
    pub(crate) what: &'static str,
    /// What was found.
    pub(crate) value: String,
    /// Why.
    pub(crate) why: String,
}

/// All that the templates know.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Project {
    /// Name of images and services.
    pub(crate) name: String,
    description: Option<String>,
    license: Option<String>,
    python: String,
    manager: Manager,
    kind: Kind,
    framework: Option<Framework>,
    celery: Option<Celery>,
    pub(super) layout: Layout,
    build: Option<Backend>,
    is_built_by_uv: bool,
    workspace: Workspace,
    install: Install,
    dev_install: Install,
    manifests: Vec<String>,
    /// Whether production needs anything at all.
    has_dependencies: bool,
    production_groups: Vec<String>,
    groups: Vec<String>,
    is_dev_default: bool,
    extras: Vec<String>,
    libraries: Libraries,
    commands: Commands,
    testing: Option<Testing>,
    services: Services,
    /// The stages of the Dockerfile, in order.
    pub(crate) stages: Vec<&'static str>,
    /// How the stages are counted, in words.
    stage_count: &'static str,
    needs_git: bool,
    /// Databases that are part of the project.
    databases: Vec<String>,
    /// What was found, for people.
    #[serde(skip)]
    pub(crate) findings: Vec<Finding>,
    /// What they should know.
    #[serde(skip)]
    pub(crate) notes: Vec<String>,
}

impl Project {
    /// What templates need beside the project itself.
    pub(super) fn derived(&self) -> Value {
        let join = |first: &[&str], more: &[String]| {
            let mut words: Vec<&str> = first.to_vec();
            words.extend(more.iter().map(String::as_str));
            words.join(" ")
        };
        let git: &[&str] = if self.needs_git { &["git", "tini"] } else { &["tini"] };
        // What dependencies link to is there when they are built, and when development runs them.
        let mut base = self.libraries.build.clone();
        base.extend(
            self.libraries.run.iter().filter(|name| !self.libraries.build.contains(name)).cloned(),
        );
        let below = |directory: &str| match (self.layout.is_package, self.layout.root.as_str()) {
            (false, root) if !root.is_empty() => format!("{directory}/{root}"),
            _ => directory.to_owned(),
        };
        let development = || {
            let mut paths = vec![below("/app/src")];
            let members = &self.workspace.members;
            paths.extend(members.iter().map(|member| format!("/app/src/{}", member.root)));
            paths.join(":")
        };
        let has_network_database = self.services.database.is_some_and(|kind| kind != "sqlite");
        let has_beat = self.celery.as_ref().is_some_and(|celery| celery.has_beat);
        let has_data =
            self.services.state.is_some() && (self.services.database == Some("sqlite") || has_beat);
        let images: Vec<&str> = self
            .stages
            .iter()
            .copied()
            .filter(|s| matches!(*s, "production" | "celery-worker" | "celery-beat"))
            .collect();
        let mut ci_targets = images.clone();
        ci_targets.extend(self.testing.as_ref().map(|_| "testing"));
        let service = |name: &str, stage: &str, port: Option<u16>| context! { name, stage, port };
        let mut compose = Vec::new();
        match self.kind {
            Kind::Service => compose.push(service("api", "production", self.commands.port)),
            Kind::Worker => {}
            Kind::Cli | Kind::Package => compose.push(service("app", "production", None)),
        }
        for (name, stage) in [("worker", "celery-worker"), ("beat", "celery-beat")] {
            if self.stages.contains(&stage) {
                compose.push(service(name, stage, None));
            }
        }
        let members = self.workspace.members.iter().map(|member| &member.path);
        let watched: Vec<&String> = self.layout.sources.iter().chain(members).collect();
        context! {
            apt_base => join(git, &base),
            apt_production => join(&["tini"], &self.libraries.run),
            site => below("/app/site"),
            dev_path => development(),
            test_path => below("/app"),
            client => match self.services.database {
                Some("sqlite") => Some("sqlite3"),
                Some("postgres") => Some("postgresql-client"),
                Some("mysql") => Some("default-mysql-client"),
                _ => None,
            },
            images,
            ci_targets,
            compose_services => compose,
            has_network_database,
            has_data,
            has_volumes => has_network_database || has_data,
            user => self.name.replace('-', "_"),
            watched => watched,
        }
    }

    /// Looks at a project in a directory of that name. `Err`: why kiln cannot tell what it is, and what
    /// to do.
    pub(crate) fn detect(sources: &Sources, directory: &str) -> Result<Self, (String, String)> {
        let mut manifest = Manifest::read(sources)?;
        let mut findings = Vec::new();
        let mut find =
            |what, value: String, why: String| findings.push(Finding { what, value, why });
        let name = image_name(manifest.name.as_deref().unwrap_or(directory));
        let (python, why) = python_version::choose(sources, manifest.requires_python.as_deref());
        find("dependencies", manager_name(manifest.manager).to_owned(), manifest.why.clone());
        find("Python", python.clone(), why);

        let roots = layout::roots(sources, &manifest.workspace);
        let web = web(&manifest, sources, &roots);
        let celery_object = manifest
            .needs("celery")
            .then(|| application::find(sources, &roots, application::CELERY))
            .flatten();
        let objects: Vec<&Object> = web
            .iter()
            .filter_map(|(_, object)| object.as_ref())
            .chain(celery_object.as_ref())
            .collect();
        let layout = layout::find(sources, &manifest, &objects);
        find("sources", layout.said(), layout.why.clone());
        if !manifest.workspace.members.is_empty() {
            let members: Vec<&str> =
                manifest.workspace.members.iter().map(|member| member.path.as_str()).collect();
            find("members", members.join(" "), "the project depends on them".to_owned());
        }
        if layout.paths.is_empty() {
            let why = "there is nothing to run: no package, no Python file beside the manifests";
            return Err((why.to_owned(), "`kiln init DIR` looks elsewhere".to_owned()));
        }
        let framework = web.as_ref().map(|(framework, _)| *framework);
        if let Some((framework, object)) = &web {
            let (value, why) = said_of_web(*framework, object.as_ref());
            find("serves", value, why);
        }
        let celery = celery_object.as_ref().map(|object| celery_of(object, &manifest, sources));
        if let (Some(celery), Some(object)) = (&celery, &celery_object) {
            let schedule = if celery.has_beat {
                "with a schedule"
            } else {
                "without a schedule: no celery-beat"
            };
            find(
                "works",
                format!("Celery, {}", celery.app),
                format!("{}, {schedule}", object.path),
            );
        } else if manifest.needs("celery") {
            manifest.notes.push(
                "celery is a dependency, but no `Celery(…)` was found: no worker is made"
                    .to_owned(),
            );
        }
        let kind = match (&framework, &celery) {
            (Some(_), _) => Kind::Service,
            (None, Some(_)) => Kind::Worker,
            _ if manifest.scripts.is_empty() => Kind::Package,
            _ => Kind::Cli,
        };
        let settings = settings::find(sources, application::is_own);
        let services = services::find(&name, &manifest, &settings, celery.as_ref());
        services.say(&mut find);
        let commands = serve::commands(&Seen {
            manifest: &manifest,
            sources,
            roots: &roots,
            kind,
            web: web.as_ref(),
            celery: celery.as_ref(),
            layout: &layout,
        });
        if let Some(why) = commands.why.clone() {
            find("starts with", commands.command_line(), why);
        }
        if kind == Kind::Package {
            find("kind", "a package".to_owned(), "no web framework, no command".to_owned());
        }
        let libraries = system::libraries(|name| manifest.has(name));
        if !libraries.wanted_by.is_empty() {
            let packages: Vec<String> =
                libraries.build.iter().chain(&libraries.run).cloned().collect();
            find(
                "Debian",
                packages.join(" "),
                format!("{} needs them", libraries.wanted_by.join(", ")),
            );
        }
        let testing = testing::find(sources, &manifest, framework, &layout, &settings);
        match &testing {
            Some(testing) => find("tests", testing.command.join(" "), testing.why.clone()),
            None => manifest.notes.push("no tests were found: no stage `testing`".to_owned()),
        }
        let mut notes = manifest.notes.clone();
        notes.extend(commands.note.clone());
        let stages = stages(testing.is_some(), celery.as_ref());
        Ok(Self {
            name,
            description: manifest.description.clone(),
            license: manifest.license.clone(),
            python,
            manager: manifest.manager,
            kind,
            framework,
            celery,
            is_built_by_uv: manifest.build.as_ref().is_some_and(|build| build.module == "uv_build")
                && manifest.workspace.members.iter().all(|member| member.is_uv_built),
            build: build(&manifest, &layout),
            workspace: manifest.workspace.clone(),
            install: Install::production(&manifest, &layout, &commands.missing),
            dev_install: Install::development(
                &manifest,
                &layout,
                testing.as_ref().map_or(&[], |testing| &testing.missing),
            ),
            layout,
            manifests: manifests(&manifest),
            has_dependencies: !manifest.dependencies.is_empty(),
            production_groups: manifest.production_groups.clone(),
            groups: manifest.groups.clone(),
            is_dev_default: manifest.is_dev_default,
            extras: manifest.extras.clone(),
            libraries,
            commands,
            needs_git: manifest.needs_git || testing.as_ref().is_some_and(|t| t.needs_git),
            testing,
            services,
            stage_count: [
                "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine",
            ][stages.len()],
            stages,
            databases: sources.databases(),
            findings,
            notes,
        })
    }
}

/// What is known when the commands are chosen.
pub(super) struct Seen<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) sources: &'a Sources,
    pub(super) roots: &'a [String],
    pub(super) kind: Kind,
    pub(super) web: Option<&'a (Framework, Option<Object>)>,
    pub(super) celery: Option<&'a Celery>,
    pub(super) layout: &'a Layout,
}

fn manager_name(manager: Manager) -> &'static str {
    match manager {
        Manager::Uv => "uv",
        Manager::Poetry => "Poetry",
        Manager::Requirements => "requirements",
        Manager::Pyproject => "pyproject.toml",
        Manager::Setup => "setuptools",
    }
}

/// What builds the project's package and the members beside it.
fn build(manifest: &Manifest, layout: &Layout) -> Option<Backend> {
    let mut build = manifest.build.clone().filter(|_| layout.is_package)?;
    for requirement in manifest.workspace.members.iter().flat_map(|member| &member.requires) {
        if !build.requires.contains(requirement) {
            build.requires.push(requirement.clone());
        }
    }
    Some(build)
}

/// Files that name the dependencies: an edit of one builds again what compose watches.
fn manifests(manifest: &Manifest) -> Vec<String> {
    let own = manifest.own_file.unwrap_or("pyproject.toml").to_owned();
    match manifest.manager {
        Manager::Uv => vec![own, "uv.lock".to_owned()],
        Manager::Poetry => vec![own, "poetry.lock".to_owned()],
        Manager::Requirements => manifest.requirements.files.clone(),
        Manager::Pyproject | Manager::Setup => vec![own],
    }
}

/// The web framework, and its application where it was found.
fn web(
    manifest: &Manifest,
    sources: &Sources,
    roots: &[String],
) -> Option<(Framework, Option<Object>)> {
    if layout::manage(sources).is_some() && (manifest.needs("django") || manifest.has("django")) {
        return Some((Framework::Django, None));
    }
    let tried = [
        ("fastapi", Framework::Fastapi, application::FASTAPI),
        ("flask", Framework::Flask, application::FLASK),
        ("apiflask", Framework::Flask, application::FLASK),
        ("starlette", Framework::Asgi, application::ASGI),
        ("litestar", Framework::Asgi, application::ASGI),
        ("quart", Framework::Asgi, application::ASGI),
    ];
    tried.into_iter().filter(|(name, _, _)| manifest.needs(name)).find_map(
        |(_, framework, classes)| {
            application::find(sources, roots, classes).map(|object| (framework, Some(object)))
        },
    )
}

fn said_of_web(framework: Framework, object: Option<&Object>) -> (String, String) {
    let name = match framework {
        Framework::Fastapi => "FastAPI",
        Framework::Asgi => "ASGI",
        Framework::Flask => "Flask",
        Framework::Django => "Django",
    };
    match object {
        None => (name.to_owned(), "manage.py is there".to_owned()),
        Some(object) => {
            let call = if object.is_factory { "()" } else { "" };
            (format!("{name}, {}:{}{call}", object.module, object.name), object.path.clone())
        }
    }
}

fn celery_of(object: &Object, manifest: &Manifest, sources: &Sources) -> Celery {
    let app = match object.name.as_str() {
        "app" | "celery" if !object.is_factory => object.module.clone(),
        name => format!("{}:{name}", object.module),
    };
    let marks =
        ["beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE", "add_periodic_task"];
    let mut files = sources.python().filter(|(path, _)| application::is_own(path));
    let has_beat = manifest.needs("django-celery-beat")
        || manifest.needs("celery-redbeat")
        || files.any(|(_, text)| marks.iter().any(|mark| text.contains(mark)));
    Celery { app, has_beat }
}

fn stages(has_tests: bool, celery: Option<&Celery>) -> Vec<&'static str> {
    let mut stages = vec!["base", "core-deps", "dev-deps", "app", "production", "development"];
    if has_tests {
        stages.push("testing");
    }
    if let Some(celery) = celery {
        stages.push("celery-worker");
        if celery.has_beat {
            stages.push("celery-beat");
        }
    }
    stages
}

/// A name that images can have.
fn image_name(name: &str) -> String {
    let mut made = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if !(c == '-' && (made.is_empty() || made.ends_with('-'))) {
            made.push(c);
        }
    }
    let made = made.trim_end_matches('-');
    if made.is_empty() { "app".to_owned() } else { made.to_owned() }
}

/// Whether a setting's name ends with one of those.
pub(super) fn ends_with(setting: &Setting, ends: &[&str]) -> bool {
    ends.iter().any(|end| setting.name == *end || setting.name.ends_with(&format!("_{end}")))
}

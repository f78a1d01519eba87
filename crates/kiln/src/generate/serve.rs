//! What the images start: servers, workers, commands, and the probe of their health.

use serde::Serialize;

use super::application::{self, Framework, Object};
use super::layout;
use super::project::{Kind, Seen};

/// The port of services.
const PORT: u16 = 8000;

/// The commands of the images.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Commands {
    /// What production starts.
    pub(crate) production: Vec<String>,
    /// What stands before it, after tini.
    pub(crate) entrypoint: Vec<String>,
    /// What development starts.
    pub(crate) development: Vec<String>,
    /// The port that it listens on.
    pub(crate) port: Option<u16>,
    /// The probe, as an exec form.
    pub(crate) probe: Vec<String>,
    /// Distributions that are missing: the server.
    pub(crate) missing: Vec<String>,
    #[serde(skip)]
    pub(crate) why: Option<String>,
    #[serde(skip)]
    pub(crate) note: Option<String>,
}

impl Commands {
    /// What production starts, in a line.
    pub(crate) fn command_line(&self) -> String {
        let words: Vec<&str> =
            self.entrypoint.iter().chain(&self.production).map(String::as_str).collect();
        words.join(" ")
    }
}

/// The commands of what was seen.
pub(super) fn commands(seen: &Seen<'_>) -> Commands {
    match (seen.kind, seen.web) {
        (_, Some((framework, object))) => service(seen, *framework, object.as_ref()),
        (Kind::Worker, None) => Commands {
            production: words(&[
                "celery",
                "-A",
                &seen.celery.map(|c| c.app.clone()).unwrap_or_default(),
                "worker",
                "--loglevel",
                "info",
            ]),
            development: words(&[
                "celery",
                "-A",
                &seen.celery.map(|c| c.app.clone()).unwrap_or_default(),
                "worker",
                "--loglevel",
                "debug",
            ]),
            ..Commands::default()
        },
        (Kind::Cli, None) => cli(seen),
        _ => Commands {
            production: words(&["python"]),
            development: words(&["python"]),
            ..Commands::default()
        },
    }
}

fn cli(seen: &Seen<'_>) -> Commands {
    let scripts = &seen.manifest.scripts;
    let own = seen.manifest.name.as_deref().unwrap_or_default();
    let name = scripts.iter().find(|(name, _)| name == own).or(scripts.first());
    let Some((name, target)) = name else { return Commands::default() };
    // A script is installed with its package; of files that are copied only the function is there.
    let entrypoint = if seen.layout.is_package {
        words(&[name])
    } else {
        let (module, function) = target.split_once(':').unwrap_or((target, "main"));
        words(&["python", "-c", &format!("from {module} import {function}; {function}()")])
    };
    let made_with = if application::find(seen.sources, seen.roots, application::TYPER).is_some() {
        "Typer's, "
    } else {
        ""
    };
    Commands {
        entrypoint: entrypoint.clone(),
        production: words(&["--help"]),
        development: words(&["bash"]),
        why: Some(format!("{made_with}a script of pyproject.toml")),
        ..Commands::default()
    }
}

fn service(seen: &Seen<'_>, framework: Framework, object: Option<&Object>) -> Commands {
    let mut commands = Commands { port: Some(PORT), ..Commands::default() };
    let port = PORT.to_string();
    let bind = format!("0.0.0.0:{PORT}");
    let script = application::serving_script(seen.manifest, seen.sources, seen.roots)
        .filter(|_| seen.layout.is_package);
    let has = |name: &str| seen.manifest.has(name);
    let target =
        object.map(|object| format!("{}:{}", object.module, object.name)).unwrap_or_default();
    let called = object.map_or(String::new(), |o| {
        if o.is_factory { format!("{target}()") } else { target.clone() }
    });
    let factory: &[&str] =
        if object.is_some_and(|object| object.is_factory) { &["--factory"] } else { &[] };
    let uvicorn = |more: &[&str]| {
        let mut all = vec!["uvicorn"];
        all.extend(factory);
        all.extend([target.as_str(), "--host", "0.0.0.0", "--port", &port]);
        all.extend(more);
        words(&all)
    };
    match framework {
        Framework::Fastapi | Framework::Asgi => {
            let reload = seen
                .layout
                .sources
                .iter()
                .find(|path| !path.contains('.'))
                .map_or(".", |_| if seen.layout.is_package { "/app/src" } else { "." });
            commands.development = uvicorn(&["--reload", "--reload-dir", reload]);
            if let Some(script) = script {
                commands.why = Some(format!("the script {script} of pyproject.toml runs a server"));
                commands.production = words(&[&script]);
                if !has("uvicorn") {
                    commands.development.clone_from(&commands.production);
                }
            } else if has("uvicorn") || has("fastapi[standard]") {
                commands.why = Some("uvicorn is among the dependencies".to_owned());
                commands.production = uvicorn(&[]);
            } else if has("hypercorn") {
                commands.why = Some("hypercorn is among the dependencies".to_owned());
                commands.production = words(&["hypercorn", "--bind", &bind, &called]);
                commands.development = words(&["hypercorn", "--reload", "--bind", &bind, &called]);
            } else if has("granian") {
                commands.why = Some("granian is among the dependencies".to_owned());
                let mut all =
                    vec!["granian", "--interface", "asgi", "--host", "0.0.0.0", "--port", &port];
                all.extend(factory);
                all.push(&target);
                commands.production = words(&all);
                all.push("--reload");
                commands.development = words(&all);
            } else {
                commands.production = uvicorn(&[]);
                missing(&mut commands, "uvicorn", "ASGI");
            }
        }
        Framework::Flask => {
            commands.development = words(&[
                "flask", "--app", &target, "run", "--debug", "--host", "0.0.0.0", "--port", &port,
            ]);
            if let Some(script) = script {
                commands.why = Some(format!("the script {script} of pyproject.toml runs a server"));
                commands.production = words(&[&script]);
            } else {
                wsgi(&mut commands, &called, &has);
            }
        }
        Framework::Django => {
            let manage = layout::manage(seen.sources).unwrap_or("manage.py");
            commands.development = words(&["python", manage, "runserver", &bind]);
            let file = |name: &str| {
                seen.sources.paths().find(|path| path.rsplit('/').next() == Some(name))
            };
            let module = |path: &str| application::module_of(path, seen.roots).unwrap_or_default();
            match (file("wsgi.py"), file("asgi.py")) {
                (_, Some(asgi)) if has("uvicorn") && !has("gunicorn") => {
                    commands.production = words(&[
                        "uvicorn",
                        &format!("{}:application", module(asgi)),
                        "--host",
                        "0.0.0.0",
                        "--port",
                        &port,
                    ]);
                    commands.why = Some("uvicorn is among the dependencies".to_owned());
                }
                (Some(wsgi_file), _) => {
                    wsgi(&mut commands, &format!("{}:application", module(wsgi_file)), &has);
                }
                _ => {
                    commands.production =
                        words(&["python", manage, "runserver", "--noreload", &bind]);
                    commands.note = Some(
                        "no wsgi.py was found: production starts Django's server for development"
                            .to_owned(),
                    );
                }
            }
        }
    }
    commands.probe = probe(seen);
    commands
}

fn wsgi(commands: &mut Commands, target: &str, has: &dyn Fn(&str) -> bool) {
    let bind = format!("0.0.0.0:{PORT}");
    if has("waitress") && !has("gunicorn") {
        commands.production = words(&["waitress-serve", &format!("--listen={bind}"), target]);
        if let Some(factory) = target.strip_suffix("()") {
            commands.production =
                words(&["waitress-serve", &format!("--listen={bind}"), "--call", factory]);
        }
        commands.why = Some("waitress is among the dependencies".to_owned());
        return;
    }
    if has("uwsgi") && !has("gunicorn") {
        commands.production = words(&[
            "uwsgi",
            "--http",
            &bind,
            "--module",
            target,
            "--master",
            "--processes",
            "2",
            "--die-on-term",
        ]);
        commands.why = Some("uwsgi is among the dependencies".to_owned());
        return;
    }
    commands.production =
        words(&["gunicorn", "--bind", &bind, "--worker-tmp-dir", "/dev/shm", target]);
    if has("gunicorn") {
        commands.why = Some("gunicorn is among the dependencies".to_owned());
    } else {
        missing(commands, "gunicorn", "WSGI");
    }
}

fn missing(commands: &mut Commands, server: &str, kind: &str) {
    commands.missing.push(server.to_owned());
    commands.why = Some(format!("no {kind} server is among the dependencies"));
    commands.note = Some(format!(
        "no {kind} server is among the dependencies: the image gets {server} in its newest version; better add it to them"
    ));
}

/// How the health of a service is asked: a module of its own, a path that the sources have, a port.
fn probe(seen: &Seen<'_>) -> Vec<String> {
    let module = seen
        .sources
        .paths()
        .find(|path| path.ends_with("/healthcheck.py") && application::is_own(path));
    if let Some(module) = module.and_then(|path| application::module_of(path, seen.roots)) {
        return words(&["python", "-m", &module]);
    }
    let code = match application::health_path(seen.sources) {
        Some(path) => format!(
            "from urllib.request import urlopen; urlopen('http://127.0.0.1:{PORT}{path}', timeout=2)"
        ),
        None => format!("import socket; socket.create_connection(('127.0.0.1', {PORT}), 2)"),
    };
    words(&["python", "-c", &code])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

//! What a project says of itself: `pyproject.toml`, lock files, `requirements.txt`, `setup.cfg`.
//!
//! Names of distributions are compared in their normal form (the packaging
//! specification "Names and normalization").

use std::collections::BTreeSet;

use serde::Serialize;
use toml::{Table, Value};

use super::poetry;
use super::requirements::Requirements;
use super::sources::Sources;
use super::workspace::Workspace;

/// What installs the dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Manager {
    /// uv, from `uv.lock`.
    Uv,
    /// Poetry, from `poetry.lock`.
    Poetry,
    /// Files of requirements, compiled by pip-tools or written by hand.
    Requirements,
    /// The dependencies that `pyproject.toml` names, without a lock.
    Pyproject,
    /// `setup.py` or `setup.cfg`.
    Setup,
}

/// What a project says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// What installs the dependencies.
    pub(crate) manager: Manager,
    /// Why it is this one.
    pub(crate) why: String,
    /// The project's name, if it has one.
    pub(crate) name: Option<String>,
    /// What it is, in a line.
    pub(crate) description: Option<String>,
    /// SPDX expression.
    pub(crate) license: Option<String>,
    /// Which versions of Python it wants, as written.
    pub(crate) requires_python: Option<String>,
    /// Names that production needs, as far as the project names them itself, with extras as
    /// `name[extra]` beside them.
    pub(crate) dependencies: BTreeSet<String>,
    /// All names: of development and of the lock file, too.
    pub(crate) all: BTreeSet<String>,
    /// Names that production and development install, as far as the project names them itself.
    pub(crate) installed: BTreeSet<String>,
    /// Groups that production needs, too: Poetry's.
    pub(crate) production_groups: Vec<String>,
    /// Groups of development: `--group test`.
    pub(crate) groups: Vec<String>,
    /// Whether uv installs the group `dev` without being told to.
    pub(crate) is_dev_default: bool,
    /// What Poetry's groups of development name, where no lock says more.
    pub(crate) poetry_development: Vec<String>,
    /// Extras of development.
    pub(crate) extras: Vec<String>,
    /// Files of requirements for production.
    pub(crate) requirements: Requirements,
    /// Those of development.
    pub(crate) dev_requirements: Requirements,
    /// The file that names the project's own dependencies.
    pub(crate) own_file: Option<&'static str>,
    /// Whether that file says all of them itself.
    pub(crate) is_own_static: bool,
    /// Extras of the project that production installs.
    pub(crate) production_extras: Vec<String>,
    /// Commands: name and `module:function`.
    pub(crate) scripts: Vec<(String, String)>,
    /// The workspace that the project is the root of.
    pub(crate) workspace: Workspace,
    /// What builds the package, if anything does.
    pub(crate) build: Option<Backend>,
    /// Whether `tool.NAME` is there, for tools of development.
    pub(crate) tools: BTreeSet<String>,
    /// Directories of packages that the project names itself.
    pub(crate) packages: Vec<String>,
    /// Files beside the sources that a build of the package reads.
    pub(crate) build_files: Vec<String>,
    /// Whether one of the dependencies comes out of a git repository.
    pub(crate) needs_git: bool,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// What builds a package: `build-system` of `pyproject.toml`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Backend {
    /// The distributions that it needs.
    pub(crate) requires: Vec<String>,
    /// Its module, or `setuptools.build_meta`.
    pub(crate) module: String,
    /// Whether the version comes out of version control.
    pub(crate) is_versioned_by_git: bool,
}

const DEVELOPMENT: [&str; 7] =
    ["dev", "test", "tests", "testing", "develop", "development", "pytest"];
const PRODUCTION_FILES: [&str; 7] = [
    "requirements.txt",
    "requirements/prod.txt",
    "requirements/production.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
    "requirements/main.txt",
    "requirements/common.txt",
];
const DEVELOPMENT_FILES: [&str; 14] = [
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "requirements-test.txt",
    "requirements_test.txt",
    "requirements-tests.txt",
    "test-requirements.txt",
    "requirements/dev.txt",
    "requirements/development.txt",
    "requirements/test.txt",
    "requirements/tests.txt",
    "requirements/testing.txt",
    "requirements/local.txt",
    "requirements-local.txt",
];
/// Lock files of managers that kiln does not know, and how to get to one that it does.
const OTHERS: [(&str, &str); 3] = [
    ("Pipfile", "`pipenv requirements > requirements.txt` writes what kiln reads"),
    (
        "environment.yml",
        "conda's packages are none of PyPI's: name the dependencies in pyproject.toml",
    ),
    ("pdm.lock", "`pdm export -o requirements.txt` writes what kiln reads"),
];

impl Manifest {
    /// Reads what is there. `Err` says in a sentence why kiln cannot tell, and what to do.
    pub(crate) fn read(sources: &Sources) -> Result<Self, (String, String)> {
        let pyproject = match sources.text("pyproject.toml") {
            None => Table::new(),
            Some(text) => text.parse::<Table>().map_err(|error| {
                let line = error.to_string();
                let line = line.lines().next().unwrap_or_default().to_owned();
                (format!("pyproject.toml: {line}"), "correct the file, then try again".to_owned())
            })?,
        };
        let mut manifest = Self::empty();
        manifest.read_pyproject(&pyproject, sources);
        manifest.read_requirements(sources);
        manifest.read_setup_cfg(sources);
        manifest.find_own_file(&pyproject, sources);
        manifest.choose_manager(&pyproject, sources)?;
        manifest.installed = manifest.all.union(&manifest.dependencies).cloned().collect();
        manifest.read_lock(sources);
        manifest.read_workspace(&pyproject, sources)?;
        let names: Vec<String> = manifest.dependencies.iter().cloned().collect();
        manifest.all.extend(names);
        Ok(manifest)
    }

    fn empty() -> Self {
        Self {
            manager: Manager::Pyproject,
            why: String::new(),
            name: None,
            description: None,
            license: None,
            requires_python: None,
            dependencies: BTreeSet::new(),
            all: BTreeSet::new(),
            installed: BTreeSet::new(),
            production_groups: Vec::new(),
            groups: Vec::new(),
            is_dev_default: true,
            poetry_development: Vec::new(),
            extras: Vec::new(),
            requirements: Requirements::default(),
            dev_requirements: Requirements::default(),
            own_file: None,
            is_own_static: false,
            production_extras: Vec::new(),
            scripts: Vec::new(),
            workspace: Workspace::default(),
            build: None,
            tools: BTreeSet::new(),
            packages: Vec::new(),
            build_files: Vec::new(),
            needs_git: false,
            notes: Vec::new(),
        }
    }

    /// Whether production needs a distribution, by what the project says itself.
    pub(crate) fn needs(&self, name: &str) -> bool {
        self.dependencies.contains(name)
    }

    /// Whether a distribution is there at all: of development, or because another needs it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    fn read_pyproject(&mut self, file: &Table, sources: &Sources) {
        let project = table(file, &["project"]);
        let poetry = table(file, &["tool", "poetry"]);
        for of in [&project, &poetry] {
            let text = |key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
            self.name = self.name.take().or_else(|| text("name"));
            self.description = self.description.take().or_else(|| text("description"));
            self.license = self.license.take().or_else(|| text("license"));
            if let Some(scripts) = of.get("scripts").and_then(Value::as_table) {
                let named =
                    scripts.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
                self.scripts.extend(named);
            }
        }
        self.requires_python =
            project.get("requires-python").and_then(Value::as_str).map(str::to_owned);
        for requirement in strings(project.get("dependencies")) {
            self.add(&requirement);
        }
        for (extra, list) in &table(file, &["project", "optional-dependencies"]) {
            self.add_development(extra, &strings(Some(list)), GroupKind::Extra);
        }
        let groups = table(file, &["dependency-groups"]);
        for group in groups.keys() {
            self.add_development(group, &of_group(group, &groups, 0), GroupKind::Group);
        }
        self.read_poetry(file, &poetry);
        if let Some(Value::Array(defaults)) = table(file, &["tool", "uv"]).get("default-groups") {
            self.is_dev_default = defaults.iter().any(|group| group.as_str() == Some("dev"));
        }
        for requirement in strings(table(file, &["tool", "uv"]).get("dev-dependencies")) {
            self.all.insert(normal(&requirement));
        }
        if let Some(Value::Table(build)) = file.get("build-system") {
            let requires = strings(build.get("requires"));
            let module = build.get("build-backend").and_then(Value::as_str);
            let by_git = [
                "setuptools-scm",
                "hatch-vcs",
                "poetry-dynamic-versioning",
                "versioningit",
                "setuptools-git-versioning",
            ];
            self.build = Some(Backend {
                is_versioned_by_git: requires.iter().any(|r| by_git.contains(&normal(r).as_str())),
                requires,
                module: module.unwrap_or("setuptools.build_meta").to_owned(),
            });
        }
        self.tools = table(file, &["tool"]).keys().cloned().collect();
        self.read_build_files(file, sources);
        for path in
            strings(table(file, &["tool", "hatch", "build", "targets", "wheel"]).get("packages"))
        {
            self.packages.push(path);
        }
    }

    fn read_poetry(&mut self, file: &Table, poetry: &Table) {
        for (name, what) in &table(file, &["tool", "poetry", "dependencies"]) {
            if name == "python" {
                self.requires_python =
                    self.requires_python.take().or(what.as_str().map(str::to_owned));
                continue;
            }
            let is_optional = what.get("optional").and_then(Value::as_bool).unwrap_or(false);
            self.needs_git |= what.get("git").is_some();
            if !is_optional {
                let extras = strings(what.get("extras"));
                self.add(&format!("{name}[{}]", extras.join(",")));
            }
        }
        let mut groups = table(file, &["tool", "poetry", "group"]);
        if let Some(dev) = poetry.get("dev-dependencies") {
            let dev = Table::from_iter([("dependencies".to_owned(), dev.clone())]);
            groups.entry("dev").or_insert(Value::Table(dev));
        }
        for (group, content) in &groups {
            let list = content.get("dependencies").and_then(Value::as_table);
            let names: Vec<String> =
                list.into_iter().flat_map(|list| list.keys().cloned()).collect();
            if is_for_development(group) {
                let requirements = list.into_iter().flatten();
                self.poetry_development
                    .extend(requirements.filter_map(|(k, v)| poetry::requirement(k, v)));
            }
            if ["prod", "production"].contains(&group.as_str()) {
                self.production_groups.push(group.clone());
                for name in &names {
                    self.add(name);
                }
            }
            self.add_development(group, &names, GroupKind::Group);
        }
        for package in poetry.get("packages").and_then(Value::as_array).into_iter().flatten() {
            let part = |key: &str| package.get(key).and_then(Value::as_str);
            if let Some(include) = part("include") {
                let from = part("from").map(|from| format!("{from}/")).unwrap_or_default();
                self.packages.push(format!("{from}{include}"));
            }
        }
        if poetry.get("package-mode").and_then(Value::as_bool) == Some(false) {
            self.build = None;
        }
    }

    /// Files that are there and that a table about the build names: the readme, a changelog, a script.
    fn read_build_files(&mut self, file: &Table, sources: &Sources) {
        let mut files: Vec<String> = vec!["pyproject.toml".to_owned()];
        files.extend(all_strings(&Value::Table(table(file, &["project"]))));
        for tool in ["poetry", "hatch", "setuptools", "flit", "pdm", "scikit-build", "maturin"] {
            files.extend(all_strings(&Value::Table(table(file, &["tool", tool]))));
        }
        for script in ["setup.py", "setup.cfg"] {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            let words = sources.text(script).unwrap_or_default().split(|c| !is_path(c));
            files.extend(words.map(str::to_owned));
        }
        for name in [
            "setup.py",
            "setup.cfg",
            "MANIFEST.in",
            "hatch_build.py",
            "LICENSE",
            "LICENSE.txt",
            "LICENSE.md",
        ] {
            files.push(name.to_owned());
        }
        for file in files {
            if sources.has(&file) && !self.build_files.contains(&file) {
                self.build_files.push(file);
            }
        }
    }

    fn read_requirements(&mut self, sources: &Sources) {
        let first =
            |names: &[&str]| names.iter().find(|name| sources.has(name)).map(|n| (*n).to_owned());
        let file = |names| first(names).map(|file| Requirements::read(&file, sources));
        let (mut production, mut development) = (file(&PRODUCTION_FILES), file(&DEVELOPMENT_FILES));
        // An environment to work in says nothing of what production needs.
        if production.as_ref().is_some_and(|file| file.is_for_development(sources)) {
            development = development.or(production.take());
        }
        if let Some(file) = production {
            file.lines(sources).for_each(|line| self.add(line));
            match file.itself().filter(|_| file.lines(sources).next().is_none()) {
                Some(itself) => self.production_extras.clone_from(&itself.extras),
                None => self.requirements = file,
            }
        }
        if let Some(file) = development {
            self.all.extend(file.lines(sources).map(normal));
            self.dev_requirements = file;
        }
    }

    /// Where the project names its own dependencies, and whether they can be read without asking what
    /// builds it.
    fn find_own_file(&mut self, file: &Table, sources: &Sources) {
        let project = table(file, &["project"]);
        let has_poetry = table(file, &["tool", "poetry"]).contains_key("dependencies");
        let dynamic = strings(project.get("dynamic"));
        let is_dynamic = dynamic.iter().any(|key| key.ends_with("dependencies"));
        let setup = ["setup.py", "setup.cfg"].into_iter().find(|file| sources.has(file));
        self.own_file = match setup {
            Some(setup) if project.is_empty() && !has_poetry => Some(setup),
            _ if project.is_empty() && !has_poetry => None,
            _ => Some("pyproject.toml"),
        };
        self.is_own_static = !project.is_empty() && !is_dynamic;
    }

    /// Names below `install_requires`, `python_requires` and `name` of `setup.cfg`, its commands and its
    /// extras for development.
    fn read_setup_cfg(&mut self, sources: &Sources) {
        let (mut section, mut key) = (String::new(), String::new());
        for line in sources.text("setup.cfg").unwrap_or_default().lines() {
            let mut value = line.trim();
            if !line.starts_with([' ', '\t']) && !value.is_empty() {
                if value.starts_with('[') {
                    value.clone_into(&mut section);
                }
                let (name, rest) = line.split_once('=').unwrap_or_default();
                name.trim().clone_into(&mut key);
                value = rest.trim();
                if section == "[options.extras_require]" {
                    self.add_development(name.trim(), &[], GroupKind::Extra);
                }
            }
            match (section.as_str(), key.as_str()) {
                _ if value.is_empty() || value.starts_with('#') => {}
                ("[options.extras_require]", extra) if is_for_development(extra) => {
                    self.all.insert(normal(value));
                }
                ("[options.entry_points]", "console_scripts") => {
                    let (name, target) = value.split_once('=').unwrap_or((value, ""));
                    self.scripts.push((name.trim().to_owned(), target.trim().to_owned()));
                }
                (_, "install_requires") => self.add(value),
                (_, "python_requires") => self.requires_python = Some(value.to_owned()),
                (_, "name") if self.name.is_none() => self.name = Some(value.to_owned()),
                _ => {}
            }
        }
    }

    fn choose_manager(&mut self, file: &Table, sources: &Sources) -> Result<(), (String, String)> {
        let has_tool = |name: &str| self.tools.contains(name);
        let has_poetry = table(file, &["tool", "poetry"]).contains_key("dependencies");
        let pinned = self.requirements.first().and_then(|file| sources.text(file));
        let is_compiled = pinned
            .is_some_and(|text| text.contains("pip-compile") || text.contains("uv pip compile"));
        let is_pinned = pinned.is_some_and(|text| text.contains("=="));
        let names_own = table(file, &["project"]).contains_key("dependencies");
        let (manager, why) = if sources.has("uv.lock") {
            (Manager::Uv, "uv.lock is there".to_owned())
        } else if sources.has("poetry.lock") {
            (Manager::Poetry, "poetry.lock is there".to_owned())
        } else if self.build.as_ref().is_some_and(|build| build.module == "uv_build") {
            (Manager::Uv, "uv_build builds the package".to_owned())
        } else if has_poetry && !names_own && !self.is_built_by_poetry(file) {
            (Manager::Poetry, "pyproject.toml has [tool.poetry]".to_owned())
        } else if let Some(first) = self.requirements.first()
            && (is_compiled || is_pinned || !names_own || self.requirements.itself().is_some())
        {
            let made = if is_compiled { "was compiled by pip-tools" } else { "is there" };
            (Manager::Requirements, format!("{first} {made}"))
        } else if names_own || file.contains_key("project") || has_poetry {
            (
                Manager::Pyproject,
                "pyproject.toml names the dependencies, nothing locks them".to_owned(),
            )
        } else if sources.has("setup.py") || sources.has("setup.cfg") {
            (Manager::Setup, "setup.py names the dependencies".to_owned())
        } else {
            let other = OTHERS.iter().find(|(name, _)| sources.has(name));
            let found = match other {
                Some((name, _)) => format!("{name} is there, which kiln does not read"),
                None => "no pyproject.toml, requirements.txt or setup.py is there".to_owned(),
            };
            let help = other.map_or(
                "kiln init knows uv, Poetry, requirements.txt, pyproject.toml and setup.py; `kiln init DIR` looks elsewhere",
                |(_, help)| help,
            );
            return Err((found, help.to_owned()));
        };
        (self.manager, self.why) = (manager, why);
        let tool = match manager {
            Manager::Uv => "uv",
            Manager::Poetry => "poetry",
            _ => "",
        };
        if !tool.is_empty() && !sources.has(&format!("{tool}.lock")) {
            self.notes.push(format!(
                "{tool}.lock is not there, and the build needs it: `{tool} lock` makes it"
            ));
        }
        if manager != Manager::Poetry {
            // What is left are those that other tools know, too.
            let known = table(file, &["dependency-groups"]);
            self.groups.retain(|group| known.contains_key(group));
        }
        if manager == Manager::Pyproject && (has_tool("uv") || has_tool("poetry")) {
            let tool = if has_tool("uv") { "uv" } else { "poetry" };
            self.notes.push(format!(
                "nothing locks the dependencies: `{tool} lock` does, and `kiln init --force` then uses it"
            ));
        }
        let is_installed = manager == Manager::Setup || self.requirements.itself().is_some();
        if is_installed && self.build.is_none() {
            self.build = Some(Backend {
                requires: vec!["setuptools".to_owned(), "wheel".to_owned()],
                module: "setuptools.build_meta".to_owned(),
                is_versioned_by_git: false,
            });
        }
        Ok(())
    }

    fn read_workspace(&mut self, file: &Table, sources: &Sources) -> Result<(), (String, String)> {
        let needs: Vec<String> = self.dependencies.iter().cloned().collect();
        self.workspace = Workspace::read(file, &needs, sources);
        if self.workspace.is_there && !file.contains_key("project") {
            let why = "pyproject.toml is a workspace without a project of its own";
            let member = self.workspace.others.first().map_or("MEMBER", String::as_str);
            let help =
                format!("`kiln init {member}` looks at one of its members, without the lock");
            return Err((why.to_owned(), help));
        }
        Ok(())
    }

    /// Whether Poetry makes a package of the project: without a lock its backend says what that needs.
    fn is_built_by_poetry(&self, file: &Table) -> bool {
        let poetry = table(file, &["tool", "poetry"]);
        self.build.as_ref().is_some_and(|build| build.module.starts_with("poetry"))
            && poetry.get("package-mode").and_then(Value::as_bool) != Some(false)
    }

    /// The names in lock files: what the project's own dependencies bring along, too.
    fn read_lock(&mut self, sources: &Sources) {
        let lock = match self.manager {
            Manager::Uv => "uv.lock",
            Manager::Poetry => "poetry.lock",
            _ => return,
        };
        let text = sources.text(lock).unwrap_or_default();
        let mut is_package = false;
        for line in text.lines() {
            if line.starts_with("[[") {
                is_package = line == "[[package]]";
            } else if is_package && let Some(name) = line.strip_prefix("name = ") {
                self.all.insert(normal(name.trim_matches('"')));
                is_package = false;
            }
            self.needs_git |= line.contains("git+http") || line.contains("source = { git =");
        }
    }

    fn add(&mut self, requirement: &str) {
        let name = normal(requirement);
        if name.is_empty() {
            return;
        }
        self.needs_git |= requirement.contains("git+");
        if let Some((_, rest)) = requirement.split_once('[')
            && let Some((extras, _)) = rest.split_once(']')
        {
            for extra in extras.split(',').filter(|extra| !extra.trim().is_empty()) {
                self.dependencies.insert(format!("{name}[{}]", normal(extra)));
            }
        }
        self.dependencies.insert(name);
    }

    fn add_development(&mut self, group: &str, requirements: &[String], kind: GroupKind) {
        if !is_for_development(group) {
            return;
        }
        match kind {
            GroupKind::Extra => self.extras.push(group.to_owned()),
            GroupKind::Group => self.groups.push(group.to_owned()),
        }
        self.all.extend(requirements.iter().map(|requirement| normal(requirement)));
    }
}

fn is_for_development(group: &str) -> bool {
    DEVELOPMENT.contains(&group.to_ascii_lowercase().as_str())
}

#[derive(Clone, Copy)]
enum GroupKind {
    Extra,
    Group,
}

/// The name of a requirement in its normal form: `Foo_Bar[x]>=1` is `foo-bar`.
pub(crate) fn normal(requirement: &str) -> String {
    let requirement = requirement.trim();
    let end = requirement
        .find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        .unwrap_or(requirement.len());
    let mut name = String::new();
    for c in requirement[..end].chars() {
        let c = if c == '_' || c == '.' { '-' } else { c.to_ascii_lowercase() };
        if !(c == '-' && name.ends_with('-')) {
            name.push(c);
        }
    }
    name.trim_matches('-').to_owned()
}

pub(super) fn table(file: &Table, path: &[&str]) -> Table {
    let mut at = Some(file);
    for key in path {
        at = at.and_then(|table| table.get(*key)?.as_table());
    }
    at.cloned().unwrap_or_default()
}

/// The requirements of a group and of those that it includes.
fn of_group(group: &str, groups: &Table, depth: usize) -> Vec<String> {
    let mut found = strings(groups.get(group));
    let items = groups.get(group).and_then(Value::as_array).into_iter().flatten();
    for other in items.filter_map(|item| item.get("include-group")?.as_str()) {
        if depth < 8 {
            found.extend(of_group(other, groups, depth + 1));
        }
    }
    found
}

/// All texts in a value, at any depth.
fn all_strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.trim_start_matches("./").to_owned()],
        Value::Array(items) => items.iter().flat_map(all_strings).collect(),
        Value::Table(table) => table.values().flat_map(all_strings).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

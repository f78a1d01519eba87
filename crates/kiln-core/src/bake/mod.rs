//! Bake files: what `docker buildx bake` builds, as values.
//!
//! Texts of files and variables come in, targets go out; nothing is read and nothing is built here.
//! [`read`] takes files (HCL, its JSON form, and compose files) to a [`Config`]: all their targets and
//! groups. [`Config::resolve`] takes names and overrides (`--set`) to a [`Definition`]: what is built,
//! and what `--print` shows.
//!
//! The language is HCL's (`hcl-edit` parses it), evaluated lazily ([`expression`](self)): any block may
//! refer to any other, as long as nothing needs itself. Merging, inheriting, the form of entries and
//! the printed JSON follow buildx (`docs/bake-reference.md` of its repository), compose files the
//! compose specification as far as it is about building.
//!
//! Not here: remote definitions, source policies (they are printed, and refused by who builds),
//! random and slow functions (`bcrypt`, `rsadecrypt`, `uuidv4`).

mod calls;
mod compose;
mod dotenv;
mod entry;
mod expression;
mod functions;
mod interpolate;
mod networks;
mod overrides;
mod problem;
mod resolve;
mod scope;
mod syntax;
mod target;
mod texts;
mod times;
mod types;
mod value;
mod versions;
mod yaml;

use std::collections::BTreeMap;

use expression::{Locals, eval};
use problem::Place;
use scope::Scope;
use syntax::{Block, Document};
use value::{Value, compare};

pub use dotenv::read as read_dotenv;
pub use entry::{Attestation, CacheEntry, OutputEntry, SecretEntry, SshEntry};
pub use problem::Problem;
pub use resolve::{Definition, Listed};
pub use scope::Variable;
pub use target::{Group, Policy, Resources, Target};

/// A bake file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name, which says what it is written in.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// What bake files can know of the world.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Variables of the environment; empty when it is not looked at.
    pub environment: BTreeMap<String, String>,
    /// Variables of the command line (`--var`), which count more.
    pub variables: BTreeMap<String, String>,
    /// Variables that no file can set: `BAKE_CMD_CONTEXT` and `BAKE_LOCAL_PLATFORM`.
    pub built_in: BTreeMap<String, String>,
    /// Variables that compose files see beside the environment's: those of `.env`.
    pub compose_environment: BTreeMap<String, String>,
    /// What `timestamp()` gives, in seconds since 1970.
    pub now: i64,
    /// What `homedir()` gives.
    pub home: String,
}

impl World {
    fn built_in(&self, name: &str) -> Option<&str> {
        self.built_in.get(name).map(String::as_str)
    }

    fn lookup(&self, name: &str) -> Option<&str> {
        self.variables.get(name).or_else(|| self.environment.get(name)).map(String::as_str)
    }

    /// What compose files see.
    fn compose(&self, name: &str) -> Option<&str> {
        let own = || self.compose_environment.get(name).map(String::as_str);
        let project = || (name == "COMPOSE_PROJECT_NAME").then_some("bake");
        self.lookup(name).or_else(own).or_else(project)
    }
}

/// All targets and groups of some files.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Groups, in order; a name may come twice, then the first counts.
    pub groups: Vec<Group>,
    /// Targets, in order, each name once; nothing inherited yet.
    pub targets: Vec<Target>,
    /// Variables in the order of their names.
    pub variables: Vec<Variable>,
    /// What the user should know.
    pub warnings: Vec<Problem>,
}

/// Targets that a matrix may make.
const MATRIX_LIMIT: usize = 4096;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Hcl,
    Json,
    Compose,
}

/// Reads files, the later ones over the earlier ones; compose files come before all others.
///
/// # Errors
/// All that is wrong with the first file that is wrong, or with its values.
pub fn read(files: &[File], world: &World) -> Result<Config, Vec<Problem>> {
    let mut documents = Vec::new();
    let mut composes = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match language(file) {
            Language::Compose => composes.push(index),
            Language::Json => documents.push(one(syntax::parse_json(index, &file.text))?),
            Language::Hcl => documents.push(one(syntax::parse_hcl(index, &file.text))?),
        }
    }
    let mut config = Config::default();
    if !composes.is_empty() {
        config = one(compose::read(files, &composes, world))?;
    }
    if !documents.is_empty() {
        add_documents(&mut config, &documents, world)?;
    }
    for group in &mut config.groups {
        let mut seen: Vec<String> = Vec::new();
        group.targets.retain(|target| {
            let is_new = !seen.contains(target);
            seen.push(target.clone());
            is_new
        });
    }
    Ok(config)
}

fn one<T>(result: Result<T, Problem>) -> Result<T, Vec<Problem>> {
    result.map_err(|problem| vec![problem])
}

/// By the name; a file without an ending that is known is what it can be read as.
fn language(file: &File) -> Language {
    let name = file.name.to_lowercase();
    let ends = |ending: &str| name.ends_with(ending);
    if ends(".yml") || ends(".yaml") {
        Language::Compose
    } else if ends(".json") {
        Language::Json
    } else if ends(".hcl") {
        Language::Hcl
    } else if compose::looks_like(&file.text) {
        Language::Compose
    } else if serde_json::from_str::<serde_json::Value>(&file.text).is_ok() {
        Language::Json
    } else {
        Language::Hcl
    }
}

/// Evaluates HCL and JSON over what compose files have said.
fn add_documents(
    config: &mut Config,
    documents: &[Document],
    world: &World,
) -> Result<(), Vec<Problem>> {
    config.warnings.extend(documents.iter().flat_map(|document| document.unknown.clone()));
    let mut scope = one(Scope::new(world, documents))?;
    config.variables = scope.check_variables()?;
    let mut named = Vec::new();
    let mut renamed: Vec<(String, Vec<String>)> = Vec::new();
    for block in documents.iter().flat_map(|document| &document.blocks) {
        let kind = match block.kind.as_str() {
            "group" => "group",
            "target" => "target",
            _ => continue,
        };
        let names = one(block_names(&scope, kind, block))?;
        for (name, locals) in names {
            scope.add_block(kind, &name, (block, locals.clone()));
            match renamed.iter_mut().find(|(old, _)| *old == block.label) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name.clone()),
                None => renamed.push((block.label.clone(), vec![name.clone()])),
            }
            named.push((kind, name, block, locals));
        }
    }
    let mut problems = Vec::new();
    for (kind, name, block, names) in named {
        let locals = Locals { names, outer: None };
        let result = match kind {
            "group" => add_group(config, &scope, (&name, block), &locals),
            _ => add_target(config, &scope, (&name, block), &locals),
        };
        problems.extend(result.err());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for (old, names) in renamed {
        // A matrix is a group of what it makes.
        if names != [old.as_str()] {
            config.groups.push(Group { name: old, targets: names, ..Group::default() });
        }
    }
    Ok(())
}

type Named = Vec<(String, BTreeMap<String, Value>)>;

/// The names that a block has, with what its matrix sets for each.
fn block_names(scope: &Scope<'_>, kind: &str, block: &Block) -> Result<Named, Problem> {
    check_name(&block.label).map_err(|problem| problem.at(block.place))?;
    let own_name = block.attribute("name");
    let Some(matrix) = block.attribute("matrix") else {
        return match own_name {
            Some(name) => Err(Problem::new("bake-matrix", "a name needs a matrix").at(name.place)),
            None => Ok(vec![(block.label.clone(), BTreeMap::new())]),
        };
    };
    if kind == "group" {
        return Err(Problem::new("bake-matrix", "a group has no matrix").at(matrix.place));
    }
    let at = matrix.expr.place;
    let wrong = |message: &str| Problem::new("bake-matrix", message).at(at);
    let Value::Map(axes) = scope.value(&matrix.expr, &Locals::default())? else {
        return Err(wrong("a matrix is an object of lists"));
    };
    let mut points = vec![BTreeMap::new()];
    for (axis, values) in axes {
        let values = match values {
            Value::List(values) | Value::Set(values) => values,
            Value::Map(map) => map.into_values().collect(),
            _ => return Err(wrong(&format!("`{axis}` of the matrix is no list"))),
        };
        if points.len().saturating_mul(values.len()) > MATRIX_LIMIT {
            return Err(wrong(&format!("a matrix makes at most {MATRIX_LIMIT} targets")));
        }
        points = values
            .iter()
            .flat_map(|value| {
                points.iter().map(|point| {
                    let mut point = point.clone();
                    point.insert(axis.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    let mut names: Named = Vec::new();
    for point in points {
        let locals = Locals { names: point, outer: None };
        let name = match own_name {
            Some(name) => {
                let value = scope.value(&name.expr, &locals)?;
                let text = value.to_text().map_err(|why| eval(why).at(name.expr.place))?;
                check_name(&text).map_err(|problem| problem.at(name.expr.place))?;
                text
            }
            None => block.label.clone(),
        };
        if names.iter().any(|(known, _)| *known == name) {
            let problem = Problem::new("bake-matrix", format!("duplicate name \"{name}\""));
            let at = own_name.map_or(at, |name| name.expr.place);
            return Err(problem.at(at).help("give the target a `name` that the matrix changes"));
        }
        names.push((name, locals.names));
    }
    Ok(names)
}

/// Names are of letters, digits, `_` and `-`.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_known) {
        return Ok(());
    }
    let message = format!("`{name}` is no name of a target: only [a-zA-Z0-9_-]+ are allowed");
    Err(Problem::new("bake-name", message))
}

fn add_group(
    config: &mut Config,
    scope: &Scope<'_>,
    (name, block): (&str, &Block),
    locals: &Locals<'_>,
) -> Result<(), Problem> {
    let mut group = Group { name: name.to_owned(), ..Group::default() };
    let mut has_targets = false;
    for attribute in &block.attributes {
        let wrong =
            |why: String| eval(format!("{}: {why}", attribute.name)).at(attribute.expr.place);
        match attribute.name.as_str() {
            "targets" => {
                has_targets = true;
                let value = scope.value(&attribute.expr, locals)?;
                let targets = value.to_elements().map_err(wrong)?.iter().map(Value::to_text);
                group.targets = targets.collect::<Result<_, _>>().map_err(wrong)?;
            }
            "description" => {
                let value = scope.value(&attribute.expr, locals)?;
                group.description = value.to_text().map_err(wrong)?;
            }
            other => config.warnings.push(unknown(("group", other), attribute.place)),
        }
    }
    if !has_targets {
        let message = format!("group `{name}` has no targets");
        return Err(Problem::new("bake-block", message).at(block.place));
    }
    match config.groups.iter_mut().find(|known| known.name == name) {
        Some(known) => *known = group,
        None => config.groups.push(group),
    }
    Ok(())
}

fn add_target(
    config: &mut Config,
    scope: &Scope<'_>,
    (name, block): (&str, &Block),
    locals: &Locals<'_>,
) -> Result<(), Problem> {
    let mut target = Target { name: name.to_owned(), ..Target::default() };
    for attribute in &block.attributes {
        let known = attribute.name.as_str();
        if ["name", "matrix"].contains(&known) {
            continue;
        }
        if target::shape("target", known).is_none() {
            config.warnings.push(unknown(("target", known), attribute.place));
            continue;
        }
        let value = scope.value(&attribute.expr, locals)?;
        target
            .set(known, &value)
            .map_err(|why| eval(format!("{known}: {why}")).at(attribute.expr.place))?;
    }
    match config.targets.iter_mut().find(|known| known.name == name) {
        Some(known) => known.merge(&target),
        None => config.targets.push(target),
    }
    Ok(())
}

/// Attributes that nobody knows change nothing.
fn unknown((kind, name): (&str, &str), place: Place) -> Problem {
    let near = crate::diagnostic::did_you_mean(name, target::attributes(kind));
    let message = format!("`{name}` means nothing in a {kind}");
    Problem::new("bake-unknown-attribute", message).at(place).near(near).warning()
}

/// An order of values, for what sorts them.
fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by(compare);
    values
}

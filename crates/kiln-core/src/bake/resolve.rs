//! From all targets to those that are built: groups, patterns, inheritance, links.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::entry::OutputEntry;
use super::overrides::{Override, Overrides};
use super::{Config, Group, Problem, Target, World};
use crate::diagnostic::did_you_mean;
use crate::glob::Glob;

/// What is built, as `--print` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Definition {
    /// Groups that were asked for; `default` always is one.
    #[serde(rename = "group", skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// Targets by name.
    #[serde(rename = "target")]
    pub targets: BTreeMap<String, Target>,
}

/// A line of `--list=targets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The name of a target or a group.
    pub name: String,
    /// What it is for; of a group also what is in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is a group.
    #[serde(rename = "group", skip_serializing_if = "std::ops::Not::not")]
    pub is_group: bool,
}

impl Definition {
    /// The JSON of `--print`: that of Go, which escapes what HTML would read.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("maps of texts are JSON");
        go_escaped(&text)
    }
}

/// JSON as Go writes it.
pub(super) fn go_escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => text.push(c),
        }
    }
    text
}

/// Of a pattern of names: whether it is one.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// Whether a name is what a pattern means.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    Glob::path(pattern).is_ok_and(|glob| glob.matches(name))
}

impl Config {
    /// The targets that names, patterns and groups stand for, with all that they inherit and what
    /// `sets` (`TARGET.KEY=VALUE`) change.
    ///
    /// # Errors
    /// Names that no target has, links in a circle, overrides that are none.
    pub fn resolve(
        &self,
        names: &[String],
        sets: &[String],
        world: &World,
    ) -> Result<Definition, Problem> {
        let overrides = self.overrides(sets, world)?;
        let asked = self.asked(names)?;
        let mut definition = Definition::default();
        for name in &asked {
            let (targets, groups) = self.members(name, &mut BTreeMap::new());
            for target in targets {
                let resolved = self.target(&target, &overrides)?;
                definition.targets.insert(target, resolved);
            }
            for name in groups {
                if let Some(group) = self.groups.iter().find(|group| group.name == name) {
                    definition.groups.entry(name).or_insert_with(|| group.clone());
                }
            }
        }
        for name in asked {
            if definition.groups.contains_key("default") && name == "default" {
                continue;
            }
            definition.groups.entry("default".to_owned()).or_default().targets.push(name);
        }
        if let Some(default) = definition.groups.get_mut("default") {
            default.targets.sort();
            default.targets.dedup();
        }
        self.link(&mut definition, &overrides)?;
        for target in definition.targets.values_mut() {
            settle_paths(target)?;
        }
        Ok(definition)
    }

    /// Names in the order that they were asked for, each once.
    fn asked(&self, names: &[String]) -> Result<Vec<String>, Problem> {
        let mut asked: Vec<String> = Vec::new();
        for name in names {
            // Compose services may have dots.
            let name = name.replace('.', "_");
            let found = if is_pattern(&name) {
                let groups = self.groups.iter().map(|group| &group.name);
                let all = groups.chain(self.targets.iter().map(|target| &target.name));
                all.filter(|known| matches(&name, known)).cloned().collect()
            } else {
                vec![name.clone()]
            };
            if found.is_empty() {
                let message = format!("could not find any target matching \"{name}\"");
                return Err(
                    Problem::new("bake-target", message).help("`--list=targets` shows them")
                );
            }
            for name in found {
                if !asked.contains(&name) {
                    asked.push(name);
                }
            }
        }
        Ok(asked)
    }

    /// The targets and the groups that a name stands for.
    fn members(
        &self,
        name: &str,
        visited: &mut BTreeMap<String, (Vec<String>, Vec<String>)>,
    ) -> (Vec<String>, Vec<String>) {
        if let Some(known) = visited.get(name) {
            return known.clone();
        }
        let Some(group) = self.groups.iter().find(|group| group.name == name) else {
            return (vec![name.to_owned()], Vec::new());
        };
        visited.insert(name.to_owned(), (Vec::new(), Vec::new()));
        let (mut targets, mut groups) = (Vec::new(), vec![name.to_owned()]);
        for member in &group.targets {
            let (found, within) = self.members(member, visited);
            if found.is_empty() {
                targets.push(member.clone());
            } else {
                targets.extend(found);
            }
            groups.extend(within);
        }
        let mut seen = BTreeSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        visited.insert(name.to_owned(), (targets.clone(), groups.clone()));
        (targets, groups)
    }

    /// One target with all that it inherits.
    fn target(&self, name: &str, overrides: &Overrides) -> Result<Target, Problem> {
        let mut visited = BTreeMap::new();
        let found = self.inherit(name, &mut visited, overrides)?;
        let mut target = found.unwrap_or_default();
        target.inherits = Vec::new();
        target.context.get_or_insert_with(|| ".".to_owned());
        if target.dockerfile.as_deref().is_none_or(str::is_empty) {
            target.dockerfile = Some("Dockerfile".to_owned());
        }
        Ok(target)
    }

    /// What inherits from itself gets nothing from there.
    fn inherit(
        &self,
        name: &str,
        visited: &mut BTreeMap<String, Option<Target>>,
        overrides: &Overrides,
    ) -> Result<Option<Target>, Problem> {
        if let Some(known) = visited.get(name) {
            return Ok(known.clone());
        }
        visited.insert(name.to_owned(), None);
        let own = self.targets.iter().find(|target| target.name == name);
        let own = own.ok_or_else(|| self.unknown_target(name))?;
        let mut target = Target { name: name.to_owned(), ..Target::default() };
        for base in &own.inherits {
            if let Some(base) = self.inherit(base, visited, overrides)? {
                target.merge(&base);
            }
        }
        target.merge(own);
        let none = BTreeMap::<String, Override>::new();
        target.apply(overrides.get(name).unwrap_or(&none))?;
        target.normalize();
        visited.insert(name.to_owned(), Some(target.clone()));
        Ok(Some(target))
    }

    fn unknown_target(&self, name: &str) -> Problem {
        let targets = self.targets.iter().map(|target| target.name.as_str());
        let groups = self.groups.iter().map(|group| group.name.as_str());
        let near = did_you_mean(name, targets.chain(groups));
        let problem = Problem::new("bake-target", format!("failed to find target {name}"));
        match near {
            Some(_) => problem.near(near),
            None => problem.help("`--list=targets` shows those that there are"),
        }
    }

    /// Adds the targets that others stand on (`target:NAME` contexts).
    fn link(&self, definition: &mut Definition, overrides: &Overrides) -> Result<(), Problem> {
        let names: Vec<String> = definition.targets.keys().cloned().collect();
        for name in names {
            self.link_one(&name, &mut definition.targets, overrides, &mut Vec::new())?;
        }
        Ok(())
    }

    fn link_one(
        &self,
        name: &str,
        targets: &mut BTreeMap<String, Target>,
        overrides: &Overrides,
        way: &mut Vec<String>,
    ) -> Result<(), Problem> {
        let wrong = |message: String| Err(Problem::new("bake-link", message));
        way.push(name.to_owned());
        let links: Vec<String> = targets[name].links().map(str::to_owned).collect();
        for link in links {
            if link == name {
                return wrong(format!("target {name} cannot link to itself"));
            }
            if way.contains(&link) {
                return wrong(format!("infinite loop from {name} to {link}"));
            }
            if !targets.contains_key(&link) {
                let mut target = self.target(&link, overrides)?;
                let kind = "cacheonly".to_owned();
                target.outputs = Some(vec![OutputEntry { kind, ..OutputEntry::default() }]);
                target.is_linked = true;
                targets.insert(link.clone(), target);
            }
            self.link_one(&link, targets, overrides, way)?;
            let base = targets[&link].clone();
            let target = targets.get_mut(name).expect("it was there");
            for entitlement in base.entitlements.iter().flatten() {
                let own = target.entitlements.get_or_insert_default();
                if !own.contains(entitlement) {
                    own.push(entitlement.clone());
                }
            }
            let platforms = |target: &Target| target.platforms.clone().unwrap_or_default();
            let (own, others) = (platforms(target), platforms(&base));
            let is_subset = own.iter().all(|platform| others.contains(platform));
            if own.len() > 1 && others.len() > 1 && !is_subset {
                let (own, others) = (own.join(" "), others.join(" "));
                return wrong(format!(
                    "target {link} can't be used by {name} because its platforms [{own}] are not a \
                     subset of [{others}]"
                ));
            }
        }
        way.pop();
        Ok(())
    }

    /// All targets and groups, those with `_` in front aside, in the order of their names.
    pub fn list(&self) -> Vec<Listed> {
        let target = |target: &Target| Listed {
            name: target.name.clone(),
            description: target.description.clone(),
            is_group: false,
        };
        let group = |group: &Group| {
            let mut members = group.targets.clone();
            members.sort();
            let members = members.join(", ");
            let description = match (group.description.as_str(), members.is_empty()) {
                ("", _) => members,
                (own, true) => own.to_owned(),
                (own, false) => format!("{own} ({members})"),
            };
            Listed { name: group.name.clone(), description, is_group: true }
        };
        let targets = self.targets.iter().map(target);
        let mut all: Vec<Listed> = targets.chain(self.groups.iter().map(group)).collect();
        all.retain(|listed| !listed.name.starts_with('_'));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Target {
    /// The targets whose results are contexts of this one.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        self.contexts.values().filter_map(|place| place.strip_prefix("target:"))
    }
}

/// Whether a place is fetched.
fn is_remote(place: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "github.com/", "git@"]
        .iter()
        .any(|start| place.starts_with(start))
}

/// Writes the context as a path of its own, without what leads nowhere.
fn settle_paths(target: &mut Target) -> Result<(), Problem> {
    let context = target.context.clone().unwrap_or_else(|| ".".to_owned());
    let wrong = |message: &str| Err(Problem::new("bake-stdin", message));
    if context == "-" {
        return wrong("context from stdin not allowed in bake");
    }
    if target.dockerfile.as_deref() == Some("-") {
        return wrong("dockerfile from stdin not allowed in bake");
    }
    let context = match context.strip_prefix("cwd://") {
        Some(path) => crate::pattern::clean(path),
        None if is_remote(&context) => context,
        None => crate::pattern::clean(&context),
    };
    target.context = Some(context);
    Ok(())
}

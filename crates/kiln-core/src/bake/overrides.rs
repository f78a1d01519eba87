//! `--set TARGET.KEY=VALUE`, with patterns and `+=`.

use std::collections::BTreeMap;

use super::entry::{Attestation, Entry, OutputEntry, SecretEntry, merge};
use super::resolve::matches;
use super::target::Resources;
use super::value::Value;
use super::{Config, Problem, Target, World};
use crate::diagnostic::did_you_mean;
use crate::dockerfile::parse_bool;

/// Overrides by target and key.
pub(super) type Overrides = BTreeMap<String, BTreeMap<String, Override>>;

/// What one key is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Override {
    /// The last value.
    value: String,
    /// All values, of keys that are lists.
    values: Vec<String>,
    /// `+=`
    appends: bool,
}

/// Keys whose values are collected.
const LISTS: [&str; 14] = [
    "annotations",
    "attest",
    "cache-from",
    "cache-to",
    "entitlements",
    "network",
    "no-cache-filter",
    "output",
    "platform",
    "policy",
    "secrets",
    "ssh",
    "tags",
    "ulimits",
];

/// All other keys.
const SINGLE: [&str; 15] = [
    "args",
    "call",
    "context",
    "contexts",
    "dockerfile",
    "extra-hosts",
    "labels",
    "load",
    "no-cache",
    "pull",
    "push",
    "resources",
    "secret",
    "shm-size",
    "target",
];

fn wrong(message: impl Into<String>) -> Problem {
    Problem::new("bake-set", message)
}

impl Config {
    pub(super) fn overrides(&self, sets: &[String], world: &World) -> Result<Overrides, Problem> {
        let mut all = Overrides::new();
        for set in sets {
            let (left, value) = match set.split_once('=') {
                Some((left, value)) => (left, Some(value)),
                None => (set.as_str(), None),
            };
            let key = left.strip_suffix('+').unwrap_or(left);
            let appends = left.ends_with('+');
            let Some((pattern, key)) = key.split_once('.') else {
                return Err(wrong(format!("invalid override key {key}, expected target.name")));
            };
            let (kind, name) = match key.split_once('.') {
                Some((kind, name)) => (kind, Some(name)),
                None => (key, None),
            };
            if value.is_none() && kind != "args" {
                let message = format!("invalid override {set}, expected target.name=value");
                return Err(wrong(message));
            }
            let needs_name = ["args", "contexts", "resources", "secret", "labels", "extra-hosts"];
            if needs_name.contains(&kind) && name.is_none() {
                return Err(wrong(format!("invalid key {left}, {kind} requires name")));
            }
            if appends && ["resources", "secret"].contains(&kind) {
                return Err(wrong(format!("invalid key {left}, {kind} does not support append")));
            }
            // An argument without a value has the environment's.
            let value = match (value, name) {
                (None, Some(name)) => world.environment.get(name).map(String::as_str),
                (value, _) => value,
            };
            for target in self.matching(pattern)? {
                let set = all.entry(target).or_default();
                let Some(value) = value else { continue };
                let set = set.entry(key.to_owned()).or_default();
                value.clone_into(&mut set.value);
                if LISTS.contains(&kind) {
                    set.appends = appends;
                    set.values.push(value.to_owned());
                }
            }
        }
        Ok(all)
    }

    fn matching(&self, pattern: &str) -> Result<Vec<String>, Problem> {
        let names = || self.targets.iter().map(|target| &target.name);
        let found: Vec<String> = if names().any(|name| name == pattern) {
            vec![pattern.to_owned()]
        } else {
            names().filter(|name| matches(pattern, name)).cloned().collect()
        };
        if found.is_empty() {
            let problem = wrong(format!("could not find any target matching '{pattern}'"));
            return Err(problem.near(did_you_mean(pattern, names().map(String::as_str))));
        }
        Ok(found)
    }
}

/// Reads all texts of a list of entries.
fn read<T: Entry>(texts: &[String]) -> Result<Vec<T>, String> {
    let mut entries = Vec::new();
    for text in texts {
        entries.extend(T::parse(text)?);
    }
    Ok(entries)
}

fn lay<T: Entry>(own: &mut Option<Vec<T>>, set: &Override) -> Result<(), String> {
    let entries = read(&set.values)?;
    if set.appends {
        merge(own, Some(&entries));
    } else {
        *own = Some(entries);
    }
    Ok(())
}

fn lay_texts(own: &mut Option<Vec<String>>, set: &Override) {
    if set.appends {
        own.get_or_insert_default().extend(set.values.iter().cloned());
    } else {
        *own = Some(set.values.clone());
    }
}

impl Target {
    /// Sets what `overrides` say. Outputs are set before they are pushed or loaded.
    pub(super) fn apply(&mut self, overrides: &BTreeMap<String, Override>) -> Result<(), Problem> {
        let is_late = |key: &str| matches!(key, "push" | "load") || key.starts_with("secret.");
        let (late, early): (Vec<_>, Vec<_>) = overrides.iter().partition(|(key, _)| is_late(key));
        for (key, set) in early.into_iter().chain(late) {
            let (kind, name) = key.split_once('.').unwrap_or((key, ""));
            self.apply_one((kind, name), set).map_err(|why| {
                let known = LISTS.iter().chain(&SINGLE).copied();
                let near = if known.clone().any(|known| known == kind) {
                    None
                } else {
                    did_you_mean(kind, known)
                };
                wrong(format!("--set {}.{key}: {why}", self.name)).near(near)
            })?;
        }
        Ok(())
    }

    fn apply_one(&mut self, (kind, name): (&str, &str), set: &Override) -> Result<(), String> {
        let value = || set.value.clone();
        let flag = || {
            let text = &set.value;
            let invalid = || format!("invalid value {text} for boolean key {kind}");
            parse_bool(text).ok_or_else(invalid)
        };
        match kind {
            "context" => self.context = Some(value()),
            "dockerfile" => self.dockerfile = Some(value()),
            "args" => {
                self.args.insert(name.to_owned(), Some(value()));
            }
            "contexts" => {
                self.contexts.insert(name.to_owned(), value());
            }
            "labels" => {
                self.labels.insert(name.to_owned(), Some(value()));
            }
            "extra-hosts" => {
                self.extra_hosts.insert(name.to_owned(), Some(value()));
            }
            "tags" => lay_texts(&mut self.tags, set),
            "platform" => lay_texts(&mut self.platforms, set),
            "no-cache-filter" => lay_texts(&mut self.no_cache_filter, set),
            "ulimits" => lay_texts(&mut self.ulimits, set),
            "entitlements" => {
                self.entitlements.get_or_insert_default().extend(set.values.iter().cloned());
            }
            "annotations" => {
                self.annotations.get_or_insert_default().extend(set.values.iter().cloned());
            }
            "policy" => return Err("kiln has no source policies".to_owned()),
            "cache-from" => lay(&mut self.cache_from, set)?,
            "cache-to" => lay(&mut self.cache_to, set)?,
            "secrets" => lay(&mut self.secrets, set)?,
            "ssh" => lay(&mut self.ssh, set)?,
            "output" => lay(&mut self.outputs, set)?,
            "attest" => merge(&mut self.attest, Some(&read::<Attestation>(&set.values)?)),
            "target" => self.target = Some(value()),
            "call" => self.call = Some(value()),
            "network" => self.network = Some(value()),
            "shm-size" => self.shm_size = Some(value()),
            "no-cache" => self.no_cache = Some(flag()?),
            "pull" => self.pull = Some(flag()?),
            "resources" => {
                let resources: &mut Resources = self.resources.get_or_insert_default();
                resources.set(name, &Value::string(&set.value))?;
            }
            "secret" => self.set_secret(name, &set.value)?,
            "push" => push(self.outputs.get_or_insert_default(), flag()?),
            "load" if flag()? => load(self.outputs.get_or_insert_default()),
            "load" => {}
            other => return Err(format!("unknown key: {other}")),
        }
        Ok(())
    }

    /// Another place of a secret that is there.
    fn set_secret(&mut self, id: &str, text: &str) -> Result<(), String> {
        let known = self.secrets.iter_mut().flatten().find(|secret| secret.id == id);
        let known = known
            .ok_or_else(|| format!("secret `{id}` must be declared before it can be overridden"))?;
        let next = SecretEntry::parse(text)?.into_iter().next().unwrap_or_default();
        if !next.id.is_empty() && next.id != id {
            return Err(format!("`{}` is not the declared secret `{id}`", next.id));
        }
        known.variable = next.variable;
        known.path = next.path;
        Ok(())
    }
}

/// `--push`: what goes somewhere goes to its registry too; without it nothing does.
fn push(outputs: &mut Vec<OutputEntry>, wanted: bool) {
    if !wanted {
        outputs.retain(|output| output.kind != "registry");
    }
    for output in outputs.iter_mut().filter(|output| output.kind == "image") {
        output.attributes.insert("push".to_owned(), wanted.to_string());
    }
    if wanted && outputs.iter().all(|output| output.kind == "docker") {
        let attributes = BTreeMap::from([("push".to_owned(), "true".to_owned())]);
        let kind = "image".to_owned();
        outputs.push(OutputEntry { kind, attributes, ..OutputEntry::default() });
    }
}

/// `--load`: into Docker's engine, unless something other than images is made.
fn load(outputs: &mut Vec<OutputEntry>) {
    let is_image = |output: &OutputEntry| {
        ["docker", "image", "registry", "oci"].contains(&output.kind.as_str())
    };
    let is_loaded = |output: &OutputEntry| output.kind == "docker" && output.destination.is_empty();
    if outputs.iter().all(is_image) && !outputs.iter().any(is_loaded) {
        outputs.push(OutputEntry { kind: "docker".to_owned(), ..OutputEntry::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushing_and_loading_add_what_is_missing() {
        let mut outputs = Vec::new();
        push(&mut outputs, true);
        load(&mut outputs);
        let shown: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["type=image,push=true", "type=docker"]);
        push(&mut outputs, false);
        assert_eq!(outputs[0].to_string(), "type=image,push=false");
        let mut files = OutputEntry::parse("out").unwrap();
        load(&mut files);
        assert_eq!(files.len(), 1);
    }
}

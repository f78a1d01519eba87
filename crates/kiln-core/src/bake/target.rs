//! Targets and groups: their attributes, how they are read, merged and printed.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::entry::{
    Attestation, CacheEntry, Entry, OutputEntry, SecretEntry, SshEntry, entries, merge,
};
use super::value::{Number, Value};

/// Texts by name; those without a value count as not there.
type Texts = BTreeMap<String, Option<String>>;

/// A group of targets and other groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Names of its members.
    pub targets: Vec<String>,
}

/// What is built: what a call of `kiln build` would say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in bake files")]
pub struct Target {
    #[serde(skip)]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<String>,
    #[serde(skip_serializing_if = "is_empty", serialize_with = "escaped_list")]
    pub annotations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_empty")]
    pub attest: Option<Vec<Attestation>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "escaped_option")]
    pub dockerfile_inline: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub args: Texts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub labels: Texts,
    #[serde(skip_serializing_if = "is_empty")]
    pub tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_empty")]
    pub cache_from: Option<Vec<CacheEntry>>,
    #[serde(skip_serializing_if = "is_empty")]
    pub cache_to: Option<Vec<CacheEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(rename = "secret", skip_serializing_if = "is_empty")]
    pub secrets: Option<Vec<SecretEntry>>,
    #[serde(skip_serializing_if = "is_empty")]
    pub ssh: Option<Vec<SshEntry>>,
    #[serde(skip_serializing_if = "is_empty")]
    pub platforms: Option<Vec<String>>,
    #[serde(rename = "output", skip_serializing_if = "is_empty")]
    pub outputs: Option<Vec<OutputEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    pub no_cache_filter: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    pub ulimits: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    pub entitlements: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub extra_hosts: Texts,
    #[serde(skip_serializing_if = "is_empty")]
    pub policy: Option<Vec<Policy>>,
    /// Another target stands on it, and nobody asked for it.
    #[serde(skip)]
    pub is_linked: bool,
}

/// Limits of a build's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in bake files")]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
}

/// A source policy, as it was written: kiln has none, and only prints it.
pub type Policy = serde_json::Value;

#[expect(clippy::ref_option, reason = "serde gives references")]
fn is_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// What is printed is read as a template again.
fn escaped(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

#[expect(clippy::ref_option, reason = "serde gives references")]
fn escaped_list<S: Serializer>(
    list: &Option<Vec<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().flatten().map(|text| escaped(text)))
}

#[expect(clippy::ref_option, reason = "serde gives references")]
fn escaped_option<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(escaped).serialize(serializer)
}

fn escaped_map<S: Serializer>(map: &Texts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, value)| (key, value.as_deref().map(escaped))))
}

/// What an attribute of a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Bool,
    Texts,
    Map,
    Caches,
    Outputs,
    Secrets,
    Ssh,
    Attestations,
    Other,
}

/// The attributes of targets.
const TARGET: [(&str, Shape); 28] = [
    ("annotations", Shape::Texts),
    ("args", Shape::Map),
    ("attest", Shape::Attestations),
    ("cache-from", Shape::Caches),
    ("cache-to", Shape::Caches),
    ("call", Shape::Text),
    ("context", Shape::Text),
    ("contexts", Shape::Map),
    ("description", Shape::Text),
    ("dockerfile", Shape::Text),
    ("dockerfile-inline", Shape::Text),
    ("entitlements", Shape::Texts),
    ("extra-hosts", Shape::Map),
    ("inherits", Shape::Texts),
    ("labels", Shape::Map),
    ("network", Shape::Text),
    ("no-cache", Shape::Bool),
    ("no-cache-filter", Shape::Texts),
    ("output", Shape::Outputs),
    ("platforms", Shape::Texts),
    ("policy", Shape::Other),
    ("pull", Shape::Bool),
    ("secret", Shape::Secrets),
    ("shm-size", Shape::Text),
    ("ssh", Shape::Ssh),
    ("tags", Shape::Texts),
    ("target", Shape::Text),
    ("ulimits", Shape::Texts),
];

const GROUP: [(&str, Shape); 2] = [("description", Shape::Text), ("targets", Shape::Texts)];

fn table(kind: &str) -> &'static [(&'static str, Shape)] {
    if kind == "group" { &GROUP } else { &TARGET }
}

/// The names of a block's attributes.
pub(super) fn attributes(kind: &str) -> impl Iterator<Item = &'static str> {
    let resources = (kind == "target").then_some("resources");
    table(kind).iter().map(|(name, _)| *name).chain(resources)
}

/// What an attribute of a block is; `None` if there is none.
pub(super) fn shape(kind: &str, name: &str) -> Option<Shape> {
    if name == "resources" && kind == "target" {
        return Some(Shape::Other);
    }
    table(kind).iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape)
}

impl Shape {
    /// A value as other blocks see it when it is this attribute's.
    pub(super) fn value(self, value: &Value) -> Result<Value, String> {
        if *value == Value::Null {
            return Ok(Value::Null);
        }
        fn seen<T: Entry>(value: &Value) -> Result<Value, String> {
            let list = entries::<T>(value)?.unwrap_or_default();
            Ok(Value::List(list.iter().map(Entry::to_value).collect()))
        }
        match self {
            Self::Text => value.to_text().map(Value::String),
            Self::Bool => value.to_bool().map(Value::Bool),
            Self::Texts => Ok(Value::strings(texts(value)?)),
            Self::Map => {
                let pairs = text_map(value)?.into_iter();
                Ok(Value::Map(
                    pairs
                        .map(|(key, value)| (key, value.map_or(Value::Null, Value::String)))
                        .collect(),
                ))
            }
            Self::Caches => seen::<CacheEntry>(value),
            Self::Outputs => seen::<OutputEntry>(value),
            Self::Secrets => seen::<SecretEntry>(value),
            Self::Ssh => seen::<SshEntry>(value),
            Self::Attestations => seen::<Attestation>(value),
            Self::Other => Ok(value.clone()),
        }
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    value.to_elements()?.iter().map(Value::to_text).collect()
}

fn text_map(value: &Value) -> Result<Texts, String> {
    let Value::Map(map) = value else {
        return Err(format!("an object is needed, this is {}", value.kind()));
    };
    map.iter()
        .map(|(key, value)| {
            let text = match value {
                Value::Null => None,
                value => Some(value.to_text().map_err(|why| format!("`{key}`: {why}"))?),
            };
            Ok((key.clone(), text))
        })
        .collect()
}

impl Resources {
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let text = || value.to_text().map(Some);
        let number = || {
            let number = value.to_number().and_then(|number| Number::to_int(number, name));
            number.map(Some).map_err(|why| format!("resources.{name}: {why}"))
        };
        match name {
            "memory" => self.memory = text()?,
            "memory-swap" => self.memory_swap = text()?,
            "cpuset-cpus" => self.cpuset_cpus = text()?,
            "cpuset-mems" => self.cpuset_mems = text()?,
            "cpu-shares" => self.cpu_shares = number()?,
            "cpu-period" => self.cpu_period = number()?,
            "cpu-quota" => self.cpu_quota = number()?,
            other => return Err(format!("unknown resources key {other}")),
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        let text = |own: &mut Option<String>, other: &Option<String>| {
            if other.is_some() {
                own.clone_from(other);
            }
        };
        text(&mut self.memory, &other.memory);
        text(&mut self.memory_swap, &other.memory_swap);
        text(&mut self.cpuset_cpus, &other.cpuset_cpus);
        text(&mut self.cpuset_mems, &other.cpuset_mems);
        self.cpu_shares = other.cpu_shares.or(self.cpu_shares);
        self.cpu_period = other.cpu_period.or(self.cpu_period);
        self.cpu_quota = other.cpu_quota.or(self.cpu_quota);
    }
}

impl Target {
    /// Takes one attribute of a block.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let text = || match value {
            Value::Null => Ok(None),
            value => value.to_text().map(Some),
        };
        let list = || match value {
            Value::Null => Ok(None),
            value => texts(value).map(Some),
        };
        let flag = || match value {
            Value::Null => Ok(None),
            value => value.to_bool().map(Some),
        };
        let map = || match value {
            Value::Null => Ok(Texts::new()),
            value => text_map(value),
        };
        match name {
            "annotations" => self.annotations = list()?,
            "args" => self.args = map()?,
            "attest" => self.attest = entries(value)?,
            "cache-from" => self.cache_from = entries(value)?,
            "cache-to" => self.cache_to = entries(value)?,
            "call" => self.call = text()?,
            "context" => self.context = text()?,
            "contexts" => {
                let pairs = map()?.into_iter();
                self.contexts = pairs.filter_map(|(key, value)| Some((key, value?))).collect();
            }
            "description" => self.description = text()?.unwrap_or_default(),
            "dockerfile" => self.dockerfile = text()?,
            "dockerfile-inline" => self.dockerfile_inline = text()?,
            "entitlements" => self.entitlements = list()?,
            "extra-hosts" => self.extra_hosts = map()?,
            "inherits" => self.inherits = list()?.unwrap_or_default(),
            "labels" => self.labels = map()?,
            "network" => self.network = text()?,
            "no-cache" => self.no_cache = flag()?,
            "no-cache-filter" => self.no_cache_filter = list()?,
            "output" => self.outputs = entries(value)?,
            "platforms" => self.platforms = list()?,
            "policy" => {
                self.policy = match value {
                    Value::Null => None,
                    value => Some(value.to_elements()?.iter().map(Value::to_json).collect()),
                }
            }
            "pull" => self.pull = flag()?,
            "resources" => {
                if let Value::Map(map) = value {
                    let mut resources = Resources::default();
                    for (key, value) in map.iter().filter(|(_, value)| **value != Value::Null) {
                        resources.set(key, value)?;
                    }
                    self.resources = Some(resources);
                }
            }
            "secret" => self.secrets = entries(value)?,
            "shm-size" => self.shm_size = text()?,
            "ssh" => self.ssh = entries(value)?,
            "tags" => self.tags = list()?,
            "target" => self.target = text()?,
            "ulimits" => self.ulimits = list()?,
            other => return Err(format!("a target has no attribute `{other}`")),
        }
        Ok(())
    }

    /// Lays another target over this one: of what both say, the other's counts, and some lists
    /// grow.
    pub(super) fn merge(&mut self, other: &Self) {
        fn replace<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
            if other.is_some() {
                *own = other.cloned();
            }
        }
        fn append(own: &mut Option<Vec<String>>, other: Option<&Vec<String>>) {
            if let Some(other) = other {
                own.get_or_insert_default().extend(other.iter().cloned());
            }
        }
        fn extend(own: &mut Texts, other: &Texts) {
            let said = other.iter().filter(|(_, value)| value.is_some());
            own.extend(said.map(|(key, value)| (key.clone(), value.clone())));
        }
        replace(&mut self.context, other.context.as_ref());
        replace(&mut self.dockerfile, other.dockerfile.as_ref());
        replace(&mut self.dockerfile_inline, other.dockerfile_inline.as_ref());
        extend(&mut self.args, &other.args);
        self.contexts.extend(other.contexts.clone());
        extend(&mut self.labels, &other.labels);
        replace(&mut self.tags, other.tags.as_ref());
        replace(&mut self.target, other.target.as_ref());
        replace(&mut self.call, other.call.as_ref());
        append(&mut self.annotations, other.annotations.as_ref());
        merge(&mut self.attest, other.attest.as_ref());
        if let Some(policy) = &other.policy {
            self.policy.get_or_insert_default().extend(policy.iter().cloned());
        }
        merge(&mut self.secrets, other.secrets.as_ref());
        merge(&mut self.ssh, other.ssh.as_ref());
        replace(&mut self.platforms, other.platforms.as_ref());
        merge(&mut self.cache_from, other.cache_from.as_ref());
        replace(&mut self.cache_to, other.cache_to.as_ref());
        replace(&mut self.outputs, other.outputs.as_ref());
        replace(&mut self.pull, other.pull.as_ref());
        replace(&mut self.no_cache, other.no_cache.as_ref());
        replace(&mut self.network, other.network.as_ref());
        append(&mut self.no_cache_filter, other.no_cache_filter.as_ref());
        replace(&mut self.shm_size, other.shm_size.as_ref());
        append(&mut self.ulimits, other.ulimits.as_ref());
        if let Some(resources) = &other.resources {
            self.resources.get_or_insert_default().merge(resources);
        }
        if !other.description.is_empty() {
            self.description.clone_from(&other.description);
        }
        append(&mut self.entitlements, other.entitlements.as_ref());
        extend(&mut self.extra_hosts, &other.extra_hosts);
        self.inherits.extend(other.inherits.iter().cloned());
    }

    /// Takes repetitions and empty texts away.
    pub(super) fn normalize(&mut self) {
        fn entries<T: Entry>(list: &mut Option<Vec<T>>) {
            *list = list.take().filter(|list| !list.is_empty()).map(T::normalize);
        }
        let lists = [
            &mut self.annotations,
            &mut self.tags,
            &mut self.platforms,
            &mut self.no_cache_filter,
            &mut self.ulimits,
        ];
        for list in lists {
            dedup(list);
        }
        entries(&mut self.attest);
        entries(&mut self.secrets);
        entries(&mut self.ssh);
        entries(&mut self.cache_from);
        entries(&mut self.cache_to);
        entries(&mut self.outputs);
        if self.network.as_deref() == Some("host") {
            self.entitlements.get_or_insert_default().push("network.host".to_owned());
        }
        dedup(&mut self.entitlements);
        self.contexts.retain(|_, place| !place.is_empty());
    }
}

fn dedup(list: &mut Option<Vec<String>>) {
    if let Some(list) = list {
        let mut kept: Vec<String> = Vec::new();
        for text in list.drain(..).filter(|text| !text.is_empty()) {
            if !kept.contains(&text) {
                kept.push(text);
            }
        }
        *list = kept;
    }
}

//! Values of targets that have parts: caches, outputs, secrets, agents, attestations. Each is written
//! as a text (`type=registry,ref=NAME`) or as an object, and printed as an object.

use std::collections::BTreeMap;

use super::value::Value;
use crate::csv::{fields, quoted};
use crate::dockerfile::parse_bool;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A cache: its type, and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheEntry {
    /// `registry`, `gha` and so on.
    pub kind: String,
    /// All else that was said.
    pub attributes: BTreeMap<String, String>,
}

/// An output: its type, its place, and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputEntry {
    /// `image`, `local` and so on.
    pub kind: String,
    /// `dest`; empty if it has none.
    pub destination: String,
    /// All else that was said.
    pub attributes: BTreeMap<String, String>,
}

/// An attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// `provenance` or `sbom`.
    pub kind: String,
    /// It is not wanted.
    pub disabled: bool,
    /// All else that was said.
    pub attributes: BTreeMap<String, String>,
}

/// A secret: where its value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SecretEntry {
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The file; empty if it is in none.
    #[serde(rename = "src", skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The variable; empty if it is in none.
    #[serde(rename = "env", skip_serializing_if = "String::is_empty")]
    pub variable: String,
}

/// An SSH agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SshEntry {
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its socket, or keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What all of them can.
pub(super) trait Entry: Sized + Clone + PartialEq {
    /// Reads the text form; an empty text is no entry, and one text may be several.
    fn parse(text: &str) -> Result<Vec<Self>, String>;
    /// Reads the object form.
    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String>;
    /// As other blocks see it.
    fn to_value(&self) -> Value;
    /// Without repetition.
    fn normalize(entries: Vec<Self>) -> Vec<Self>;
}

/// Reads a list of entries.
pub(super) fn entries<T: Entry>(value: &Value) -> Result<Option<Vec<T>>, String> {
    if *value == Value::Null {
        return Ok(None);
    }
    let mut list = Vec::new();
    for element in value.to_elements()? {
        match element {
            Value::Map(map) => list.push(T::from_map(map)?),
            Value::Null => {}
            text => list.extend(T::parse(&text.to_text()?)?),
        }
    }
    Ok(Some(list))
}

/// Appends a list that is there; what is not there changes nothing.
pub(super) fn merge<T: Entry>(list: &mut Option<Vec<T>>, other: Option<&Vec<T>>) {
    let Some(other) = other else { return };
    let both = list.iter().flatten().chain(other).cloned().collect();
    *list = Some(T::normalize(both));
}

fn texts(map: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let pairs = map.iter().filter(|(_, value)| **value != Value::Null);
    pairs
        .map(|(key, value)| {
            let text = value.to_text().map_err(|why| format!("`{key}`: {why}"))?;
            Ok((key.clone(), text))
        })
        .collect()
}

fn map_value(attributes: &BTreeMap<String, String>, own: &[(&str, &str)]) -> Value {
    let mut map: BTreeMap<String, Value> =
        attributes.iter().map(|(key, value)| (key.clone(), Value::string(value))).collect();
    map.extend(own.iter().map(|(key, value)| ((*key).to_owned(), Value::string(*value))));
    Value::Map(map)
}

fn record(own: &[(&str, &str)], attributes: &BTreeMap<String, String>) -> String {
    let own = own.iter().filter(|(_, value)| !value.is_empty()).copied();
    let attributes = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let pairs = own.chain(attributes).map(|(key, value)| quoted(&format!("{key}={value}")));
    pairs.collect::<Vec<_>>().join(",")
}

fn pair(field: &str) -> Result<(&str, &str), String> {
    field.split_once('=').ok_or_else(|| format!("`{field}` must be a key=value pair"))
}

/// Of equal entries one stays; the order is buildx's.
fn without_repetition<T: PartialEq>(mut entries: Vec<T>) -> Vec<T> {
    for index in (0..entries.len().saturating_sub(1)).rev() {
        let same = (index + 1..entries.len()).find(|other| entries[*other] == entries[index]);
        if let Some(same) = same {
            entries.swap_remove(same);
        }
    }
    entries
}

/// The last one of each name counts, at the place of the first.
fn last_of_each<T: Clone>(entries: Vec<T>, name: fn(&T) -> &str) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for entry in entries {
        match kept.iter().position(|known| name(known) == name(&entry)) {
            Some(index) => kept[index] = entry,
            None => kept.push(entry),
        }
    }
    kept
}

impl Entry for CacheEntry {
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if !text.contains('=') {
            let reference = |name: String| Self {
                kind: "registry".to_owned(),
                attributes: BTreeMap::from([("ref".to_owned(), name)]),
            };
            return Ok(fields(text)?.into_iter().map(reference).collect());
        }
        let mut entry = Self::default();
        for field in fields(text)? {
            let (key, value) = pair(&field)?;
            match key.to_lowercase().as_str() {
                "type" => value.clone_into(&mut entry.kind),
                key => {
                    entry.attributes.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        if entry.kind.is_empty() {
            return Err(format!("type required for `{text}`"));
        }
        Ok(vec![entry])
    }

    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut attributes = texts(map)?;
        let kind = attributes.remove("type").filter(|kind| !kind.is_empty());
        Ok(Self { kind: kind.ok_or("a cache needs a type")?, attributes })
    }

    fn to_value(&self) -> Value {
        map_value(&self.attributes, &[("type", &self.kind)])
    }

    fn normalize(entries: Vec<Self>) -> Vec<Self> {
        without_repetition(entries)
    }
}

impl Entry for OutputEntry {
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let fields = fields(text)?;
        if fields.len() == 1 && fields[0] == text && !text.starts_with("type=") {
            let kind = if text == "-" { "tar" } else { "local" };
            return Ok(vec![Self {
                kind: kind.to_owned(),
                destination: text.to_owned(),
                attributes: BTreeMap::new(),
            }]);
        }
        let mut entry = Self::default();
        for field in fields {
            let (key, value) = pair(&field)?;
            match key.to_lowercase().trim() {
                "type" => value.clone_into(&mut entry.kind),
                "dest" => value.clone_into(&mut entry.destination),
                key => {
                    entry.attributes.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        if entry.kind.is_empty() {
            return Err(format!("type is required for output `{text}`"));
        }
        Ok(vec![entry])
    }

    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut attributes = texts(map)?;
        let kind = attributes.remove("type").filter(|kind| !kind.is_empty());
        let destination = attributes.remove("dest").unwrap_or_default();
        Ok(Self { kind: kind.ok_or("type is required for output")?, destination, attributes })
    }

    fn to_value(&self) -> Value {
        map_value(&self.attributes, &[("type", &self.kind), ("dest", &self.destination)])
    }

    fn normalize(entries: Vec<Self>) -> Vec<Self> {
        without_repetition(entries)
    }
}

impl Entry for Attestation {
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut entry = Self::default();
        for field in fields(text)? {
            let (key, value) = pair(&field)?;
            match key.to_lowercase().trim() {
                "type" => value.clone_into(&mut entry.kind),
                "disabled" => entry.disabled = bool_of(value)?,
                _ => {
                    entry.attributes.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        if entry.kind.is_empty() {
            return Err("attestation type not specified".to_owned());
        }
        Ok(vec![entry])
    }

    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut attributes = texts(map)?;
        let kind = attributes.remove("type").unwrap_or_default();
        let disabled = attributes.remove("disabled").map(|text| bool_of(&text)).transpose()?;
        Ok(Self { kind, disabled: disabled.unwrap_or_default(), attributes })
    }

    fn to_value(&self) -> Value {
        let disabled = [("type", self.kind.as_str()), ("disabled", "true")];
        map_value(&self.attributes, if self.disabled { &disabled } else { &disabled[..1] })
    }

    fn normalize(entries: Vec<Self>) -> Vec<Self> {
        last_of_each(entries, |entry| &entry.kind)
    }
}

fn bool_of(text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("`disabled={text}` is no bool"))
}

impl Entry for SecretEntry {
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut entry = Self::default();
        let mut is_variable = false;
        for field in fields(text)? {
            let (key, value) = pair(&field)?;
            match (key.to_lowercase().as_str(), value) {
                ("type", "file" | "env") => is_variable = value == "env",
                ("type", _) => return Err(format!("unsupported secret type `{value}`")),
                ("id", _) => value.clone_into(&mut entry.id),
                ("source" | "src", _) => value.clone_into(&mut entry.path),
                ("env", _) => value.clone_into(&mut entry.variable),
                _ => return Err(format!("unexpected key `{key}` in `{field}`")),
            }
        }
        if is_variable && entry.variable.is_empty() {
            entry.variable = std::mem::take(&mut entry.path);
        }
        Ok(vec![entry])
    }

    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut texts = texts(map)?;
        Ok(Self {
            id: texts.remove("id").unwrap_or_default(),
            path: texts.remove("src").unwrap_or_default(),
            variable: texts.remove("env").unwrap_or_default(),
        })
    }

    fn to_value(&self) -> Value {
        let own = [("id", self.id.as_str()), ("src", &self.path), ("env", &self.variable)];
        map_value(&BTreeMap::new(), &own)
    }

    fn normalize(entries: Vec<Self>) -> Vec<Self> {
        last_of_each(entries, |entry| &entry.id)
    }
}

impl Entry for SshEntry {
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let (id, paths) = match text.split_once('=') {
            Some((id, paths)) => (id, paths.split(',').map(str::to_owned).collect()),
            None => (text, Vec::new()),
        };
        Ok(vec![Self { id: id.to_owned(), paths }])
    }

    fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, String> {
        let id = match map.get("id") {
            None | Some(Value::Null) => String::new(),
            Some(id) => id.to_text()?,
        };
        let paths = match map.get("paths") {
            None | Some(Value::Null) => Vec::new(),
            Some(paths) => {
                paths.to_elements()?.iter().map(Value::to_text).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { id, paths })
    }

    fn to_value(&self) -> Value {
        Value::Map(BTreeMap::from([
            ("id".to_owned(), Value::string(&self.id)),
            ("paths".to_owned(), Value::strings(self.paths.clone())),
        ]))
    }

    fn normalize(entries: Vec<Self>) -> Vec<Self> {
        last_of_each(entries, |entry| &entry.id)
    }
}

/// As an option of the command line has it.
impl std::fmt::Display for CacheEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&record(&[("type", &self.kind)], &self.attributes))
    }
}

/// As an option of the command line has it.
impl std::fmt::Display for OutputEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = [("type", self.kind.as_str()), ("dest", &self.destination)];
        f.write_str(&record(&own, &self.attributes))
    }
}

/// As an option of the command line has it.
impl std::fmt::Display for SecretEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = [("id", self.id.as_str()), ("src", &self.path), ("env", &self.variable)];
        f.write_str(&record(&own, &BTreeMap::new()))
    }
}

/// As an option of the command line has it.
impl std::fmt::Display for SshEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)?;
        if self.paths.is_empty() { Ok(()) } else { write!(f, "={}", self.paths.join(",")) }
    }
}

fn ordered<S: Serializer>(
    serializer: S,
    attributes: &BTreeMap<String, String>,
    own: &[(&str, serde_json::Value)],
) -> Result<S::Ok, S::Error> {
    let mut all: BTreeMap<&str, serde_json::Value> = attributes
        .iter()
        .map(|(key, value)| (key.as_str(), serde_json::Value::String(value.clone())))
        .collect();
    all.extend(own.iter().cloned());
    let mut map = serializer.serialize_map(Some(all.len()))?;
    for (key, value) in all {
        map.serialize_entry(key, &value)?;
    }
    map.end()
}

impl Serialize for CacheEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ordered(serializer, &self.attributes, &[("type", self.kind.clone().into())])
    }
}

impl Serialize for OutputEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dest = ("dest", self.destination.clone().into());
        let own = [("type", self.kind.clone().into()), dest];
        let shown = if self.destination.is_empty() { &own[..1] } else { &own };
        ordered(serializer, &self.attributes, shown)
    }
}

impl Serialize for Attestation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = [("type", self.kind.clone().into()), ("disabled", true.into())];
        ordered(serializer, &self.attributes, if self.disabled { &own } else { &own[..1] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_objects_are_the_same() {
        let text = CacheEntry::parse("type=local,\"src=a,b\"").unwrap();
        assert_eq!(text[0].to_string(), "type=local,\"src=a,b\"");
        let map = BTreeMap::from([
            ("type".to_owned(), Value::string("local")),
            ("src".to_owned(), Value::string("a,b")),
        ]);
        assert_eq!(CacheEntry::from_map(&map).unwrap(), text[0]);
        assert_eq!(CacheEntry::parse("a,b").unwrap().len(), 2);
        assert_eq!(OutputEntry::parse("-").unwrap()[0].kind, "tar");
        assert_eq!(SecretEntry::parse("type=env,id=a,src=B").unwrap()[0].variable, "B");
        let ssh = SshEntry::parse("default=a,b").unwrap();
        assert_eq!((ssh[0].to_string(), ssh[0].paths.len()), ("default=a,b".to_owned(), 2));
    }

    #[test]
    fn equal_entries_go_in_the_order_of_buildx() {
        assert_eq!(without_repetition(vec!['a', 'b', 'a', 'c']), ['a', 'b', 'c']);
        assert_eq!(last_of_each(vec!["a1", "b", "a2"], |text| &text[..1]), ["a2", "b"]);
    }
}

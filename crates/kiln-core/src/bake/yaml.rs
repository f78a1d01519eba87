//! YAML as a tree whose parts know their line: anchors, aliases and merge keys are resolved.
//!
//! Plain scalars are what the YAML of Go takes them for: numbers, bools, nothing, else texts.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::problem::{Place, Problem};
use crate::source::Span;

/// Nodes that aliases may make of a file.
const LIMIT: usize = 100_000;
/// How deep a file may be nested.
const DEPTH: usize = 100;

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// `!reset` and `!override` of compose.
    pub(super) tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As Go shows it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(place: Place, kind: Kind) -> Self {
        Self { place, kind, tag: None }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Kind::Map(pairs) = &self.kind else { return None };
        pairs.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// What it is, for messages.
    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a bool",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// A scalar as a text; `None` for nothing, lists and mappings.
    pub(super) fn text(&self) -> Option<String> {
        match &self.kind {
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Number(text) | Kind::Text(text) => Some(text.clone()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

/// A mapping or a list that is not at its end.
struct Open {
    anchor: usize,
    tag: Option<String>,
    place: Place,
    items: Vec<Node>,
    is_map: bool,
}

struct Loader<'a> {
    file: usize,
    /// Byte offsets of characters, if the text is more than ASCII.
    offsets: Vec<u32>,
    text: &'a str,
    anchors: BTreeMap<usize, Node>,
    open: Vec<Open>,
    count: usize,
}

/// Reads the first document of a file; an empty file is nothing.
pub(super) fn parse(file: usize, text: &str) -> Result<Node, Problem> {
    let offsets = if text.is_ascii() {
        Vec::new()
    } else {
        text.char_indices().map(|(offset, _)| offset as u32).collect()
    };
    let mut loader =
        Loader { file, offsets, text, anchors: BTreeMap::new(), open: Vec::new(), count: 0 };
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = loader.place(*error.marker(), *error.marker());
            Problem::new("bake-syntax", error.info().to_owned()).at(at)
        })?;
        let place = loader.place(span.start, span.end);
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        if let Some(node) = loader.event(event, place)? {
            root = Some(node);
        }
    }
    Ok(root.unwrap_or_else(|| Node::new(Place { file, span: None }, Kind::Null)))
}

impl Loader<'_> {
    fn place(&self, start: Marker, end: Marker) -> Place {
        let byte = |index: usize| {
            if self.offsets.is_empty() {
                return index.min(self.text.len());
            }
            self.offsets.get(index).map_or(self.text.len(), |offset| *offset as usize)
        };
        let (start, end) = (byte(start.index()), byte(end.index()));
        // One line is enough to show.
        let line = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        Place { file: self.file, span: Some(Span::new(start, end.min(line).max(start))) }
    }

    /// Takes an event; gives the whole when it was the last one.
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<Option<Node>, Problem> {
        let tag = |tag: Option<std::borrow::Cow<'_, Tag>>| tag.map(|tag| tag.suffix.clone());
        let node = match event {
            Event::Scalar(text, style, anchor, own) => {
                let kind = scalar(&text, style, own.as_deref());
                let node = Node { place, kind, tag: tag(own) };
                self.anchors.insert(anchor, node.clone());
                node
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| {
                    Problem::new("bake-syntax", "this alias has no anchor").at(place)
                })?;
                self.count += size(&node);
                node
            }
            Event::SequenceStart(anchor, own) | Event::MappingStart(anchor, own)
                if self.open.len() == DEPTH =>
            {
                let _ = (anchor, own);
                return Err(Problem::new("bake-syntax", "this is nested too deep").at(place));
            }
            Event::SequenceStart(anchor, own) => {
                let (items, tag) = (Vec::new(), tag(own));
                self.open.push(Open { anchor, tag, place, items, is_map: false });
                return Ok(None);
            }
            Event::MappingStart(anchor, own) => {
                let (items, tag) = (Vec::new(), tag(own));
                self.open.push(Open { anchor, tag, place, items, is_map: true });
                return Ok(None);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("what ends has begun");
                let kind = if open.is_map { mapping(open.items)? } else { Kind::List(open.items) };
                let node = Node { place: open.place, kind, tag: open.tag };
                self.anchors.insert(open.anchor, node.clone());
                node
            }
            _ => return Ok(None),
        };
        self.count += 1;
        if self.count > LIMIT {
            return Err(Problem::new("bake-syntax", "aliases make too much of this file").at(place));
        }
        match self.open.last_mut() {
            Some(open) => {
                open.items.push(node);
                Ok(None)
            }
            None => Ok(Some(node)),
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(pairs) => 1 + pairs.iter().map(|(_, node)| size(node)).sum::<usize>(),
        _ => 1,
    }
}

/// Keys and values in turn; `<<` takes in other mappings, behind what is there.
fn mapping(items: Vec<Node>) -> Result<Kind, Problem> {
    let mut pairs: Vec<(String, Node)> = Vec::new();
    let mut merged: Vec<Node> = Vec::new();
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        let wrong = |message: &str| Problem::new("bake-syntax", message).at(key.place);
        let name = match (&key.kind, key.text()) {
            (Kind::Null, _) => "null".to_owned(),
            (_, Some(name)) => name,
            _ => return Err(wrong("a key is a text")),
        };
        if name == "<<" {
            match value.kind {
                Kind::List(items) => merged.extend(items),
                _ => merged.push(value),
            }
            continue;
        }
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(wrong(&format!("mapping key \"{name}\" already defined")));
        }
        pairs.push((name, value));
    }
    for node in merged {
        let Kind::Map(others) = node.kind else {
            let problem = Problem::new("bake-syntax", "`<<` takes mappings");
            return Err(problem.at(node.place));
        };
        for (name, node) in others {
            if pairs.iter().all(|(known, _)| *known != name) {
                pairs.push((name, node));
            }
        }
    }
    Ok(Kind::Map(pairs))
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    let is_text = tag.is_some_and(|tag| tag.suffix == "str");
    if style != ScalarStyle::Plain || is_text {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Kind::Text(text.to_owned()), Kind::Number)
}

/// A plain number as Go shows it.
fn number(text: &str) -> Option<String> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = digits.replace('_', "");
    let based = |prefix: &str, radix: u32| {
        let digits = plain.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let is_octal = plain.len() > 1 && plain.starts_with('0') && !plain.contains(['.', 'e', 'E']);
    let whole = based("0x", 16)
        .or_else(|| based("0o", 8))
        .or_else(|| based("0b", 2))
        .or_else(|| if is_octal { based("0", 8) } else { plain.parse().ok() });
    if let Some(whole) = whole {
        return Some((sign * whole).to_string());
    }
    let known = |c: char| c.is_ascii_digit() || ".eE+-".contains(c);
    let float: f64 = plain.chars().all(known).then(|| plain.parse().ok())??;
    Some(go_float(float * f64::from(sign as i32)))
}

/// A float with as few digits as it needs, and an exponent when it is large or small.
fn go_float(float: f64) -> String {
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_go_takes_them_for() {
        let of = |text: &str| scalar(text, ScalarStyle::Plain, None);
        assert_eq!(of("1.0"), Kind::Number("1".to_owned()));
        assert_eq!(of("0x10"), Kind::Number("16".to_owned()));
        assert_eq!(of("1e30"), Kind::Number("1e+30".to_owned()));
        assert_eq!(of("3.12.1"), Kind::Text("3.12.1".to_owned()));
        assert_eq!(of("yes"), Kind::Text("yes".to_owned()));
        assert_eq!(of("~"), Kind::Null);
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        let text = "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: é3\n";
        let root = parse(0, text).unwrap();
        let b = root.get("b").unwrap();
        assert_eq!(b.get("k").unwrap().text().as_deref(), Some("é3"));
        assert_eq!(b.get("l").unwrap().text().as_deref(), Some("2"));
        let span = b.get("k").unwrap().place.span.unwrap();
        assert_eq!(&text[span.start as usize..span.end as usize], "é3");
        assert!(parse(0, "a: 1\na: 2\n").is_err());
        assert!(parse(0, "a: [").is_err());
    }
}

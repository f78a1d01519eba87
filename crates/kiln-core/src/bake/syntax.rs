//! Bake files in HCL and in HCL's JSON form, as attributes and blocks.
//!
//! Follows the HCL syntax specification and its JSON profile: in JSON the schema says which
//! properties are blocks, texts are templates, and blocks may be lists.

use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Body, Structure};
use serde_json::Value as Json;

use super::problem::{Place, Problem};
use crate::source::Span;

/// The blocks that a bake file may have.
const BLOCKS: [&str; 4] = ["variable", "function", "group", "target"];

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) attributes: Vec<Attribute>,
    pub(super) blocks: Vec<Block>,
    /// Blocks that nobody knows: as with buildx, they change nothing.
    pub(super) unknown: Vec<Problem>,
}

/// `name = expression`
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) expr: Expr,
}

/// `kind "label" { … }`
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) label: String,
    pub(super) place: Place,
    pub(super) attributes: Vec<Attribute>,
    /// Blocks within: `validation` alone.
    pub(super) blocks: Vec<Block>,
}

impl Block {
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

/// An expression of one of the languages.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) place: Place,
    pub(super) kind: ExprKind,
}

#[derive(Clone, Debug)]
pub(super) enum ExprKind {
    Hcl(Box<Expression>),
    Json(Json),
}

/// What a parser's range is.
pub(super) fn place(file: usize, range: Option<std::ops::Range<usize>>) -> Place {
    Place { file, span: range.map(|range| Span::new(range.start, range.end)) }
}

/// Reads HCL.
pub(super) fn parse_hcl(file: usize, text: &str) -> Result<Document, Problem> {
    // A byte order mark and the line ends of other systems are no part of the language.
    let body: Body = hcl_edit::parser::parse_body(text).map_err(|error| {
        let at = error.location().offset();
        let message = error.message();
        let message = if message.is_empty() { "this is no HCL" } else { message };
        let start = Span::new(at.min(text.len()), (at + 1).min(text.len()));
        Problem::new("bake-syntax", message.replace('\n', "; "))
            .at(Place { file, span: Some(start) })
    })?;
    let mut document = Document::default();
    for structure in &body {
        match structure {
            Structure::Attribute(attribute) => {
                document.attributes.push(hcl_attribute(file, attribute));
            }
            Structure::Block(block) => {
                let kind = block.ident.as_str();
                let at = place(file, block.ident.span());
                if !BLOCKS.contains(&kind) {
                    let near = crate::diagnostic::did_you_mean(kind, BLOCKS);
                    let message = format!("a block `{kind}` means nothing in a bake file");
                    let problem = Problem::new("bake-block", message).at(at).near(near);
                    document.unknown.push(problem.warning());
                    continue;
                }
                document.blocks.push(hcl_block(file, block)?);
            }
        }
    }
    Ok(document)
}

fn hcl_attribute(file: usize, attribute: &hcl_edit::structure::Attribute) -> Attribute {
    let expr = Expr {
        place: place(file, attribute.value.span()),
        kind: ExprKind::Hcl(Box::new(attribute.value.clone())),
    };
    let name = attribute.key.as_str().to_owned();
    Attribute { name, place: place(file, attribute.key.span()), expr }
}

fn hcl_block(file: usize, block: &hcl_edit::structure::Block) -> Result<Block, Problem> {
    let kind = block.ident.as_str().to_owned();
    let at = place(file, block.ident.span());
    let label = match block.labels.as_slice() {
        [label] => label.as_str().to_owned(),
        [] if kind == "validation" => String::new(),
        [] => {
            let message = format!("this {kind} has no name");
            let help = format!("write `{kind} \"NAME\" {{`");
            return Err(Problem::new("bake-block", message).at(at).help(help));
        }
        _ => return Err(Problem::new("bake-block", format!("a {kind} has one name")).at(at)),
    };
    let label_place = block.labels.first().map_or(at, |label| place(file, label.span()));
    let (mut attributes, mut blocks) = (Vec::new(), Vec::new());
    for structure in &block.body {
        match structure {
            Structure::Attribute(attribute) => attributes.push(hcl_attribute(file, attribute)),
            Structure::Block(inner) if kind == "variable" && inner.has_ident("validation") => {
                blocks.push(hcl_block(file, inner)?);
            }
            Structure::Block(inner) => {
                let name = inner.ident.as_str();
                let message = format!("a {kind} has no blocks `{name}`");
                let help = format!("write `{name} = {{`");
                let at = place(file, inner.ident.span());
                return Err(Problem::new("bake-block", message).at(at).help(help));
            }
        }
    }
    Ok(Block { kind, label, place: label_place, attributes, blocks })
}

/// Reads JSON.
pub(super) fn parse_json(file: usize, text: &str) -> Result<Document, Problem> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        let starts = text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let start: usize = starts.map(str::len).sum();
        let at = (start + error.column().saturating_sub(1)).min(text.len());
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default().to_owned();
        let span = Some(Span::new(at, (at + 1).min(text.len())));
        Problem::new("bake-syntax", why).at(Place { file, span })
    })?;
    let mut document = Document::default();
    let at = Place { file, span: None };
    for object in objects(&json) {
        let Some(object) = object.as_object() else {
            return Err(Problem::new("bake-syntax", "a bake file is an object").at(at));
        };
        for (name, value) in object {
            if BLOCKS.contains(&name.as_str()) {
                for labels in objects(value) {
                    json_blocks(at, name, labels, &mut document.blocks)?;
                }
            } else if name != "//" {
                document.attributes.push(json_attribute(at, name, value));
            }
        }
    }
    Ok(document)
}

/// A list of blocks, or the only one.
fn objects(json: &Json) -> Vec<&Json> {
    match json {
        Json::Array(values) => values.iter().collect(),
        Json::Null => Vec::new(),
        other => vec![other],
    }
}

fn json_attribute(place: Place, name: &str, value: &Json) -> Attribute {
    let expr = Expr { place, kind: ExprKind::Json(value.clone()) };
    Attribute { name: name.to_owned(), place, expr }
}

fn json_blocks(
    at: Place,
    kind: &str,
    labels: &Json,
    blocks: &mut Vec<Block>,
) -> Result<(), Problem> {
    let wrong = || {
        let message = format!("`{kind}` is an object of names, each with an object");
        Problem::new("bake-block", message).at(at)
    };
    for (label, bodies) in labels.as_object().ok_or_else(wrong)? {
        if label == "//" {
            continue;
        }
        for body in objects(bodies) {
            blocks.push(json_block(at, (kind, label), body.as_object().ok_or_else(wrong)?));
        }
    }
    Ok(())
}

fn json_block(
    at: Place,
    (kind, label): (&str, &str),
    body: &serde_json::Map<String, Json>,
) -> Block {
    let (mut attributes, mut blocks) = (Vec::new(), Vec::new());
    for (name, value) in body {
        if kind == "variable" && name == "validation" {
            let rules = objects(value).into_iter().filter_map(Json::as_object);
            blocks.extend(rules.map(|rule| json_block(at, ("validation", ""), rule)));
        } else if name != "//" {
            attributes.push(json_attribute(at, name, value));
        }
    }
    Block { kind: kind.to_owned(), label: label.to_owned(), place: at, attributes, blocks }
}

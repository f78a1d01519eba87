//! What names mean in bake files: variables, functions, and attributes of targets and groups.
//!
//! Everything is evaluated when it is asked for, once; what needs itself is an error.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::expr::Expression;

use super::World;
use super::expression::{Locals, eval};
use super::problem::Problem;
use super::syntax::{Attribute, Block, Document, Expr, ExprKind};
use super::target::{self, Shape};
use super::types::{Type, inferred};
use super::value::Value;
use crate::diagnostic::did_you_mean;

/// Set for `NAME`, this variable holds its value as JSON.
const JSON_SUFFIX: &str = "_JSON";

/// All definitions of several files.
pub(super) struct Scope<'a> {
    pub(super) world: &'a World,
    pub(super) variables: BTreeMap<String, &'a Block>,
    attributes: BTreeMap<String, &'a Attribute>,
    pub(super) functions: BTreeMap<String, Function<'a>>,
    /// Groups and targets by kind and name, in the order of the files; one of a matrix with what its
    /// names stand for.
    blocks: BTreeMap<(&'static str, String), Vec<Placed<'a>>>,
    known: RefCell<BTreeMap<String, Value>>,
    busy: RefCell<BTreeSet<String>>,
}

/// A block, and what its matrix sets for it.
pub(super) type Placed<'a> = (&'a Block, BTreeMap<String, Value>);

/// `function "name" { … }`
pub(super) struct Function<'a> {
    parameters: Vec<String>,
    variadic: Option<String>,
    result: &'a Expr,
}

/// A variable as `--list=variables` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its declared type; empty without one.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its value as a text; `None` is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl<'a> Scope<'a> {
    /// What documents define, the later ones over the earlier ones.
    pub(super) fn new(world: &'a World, documents: &'a [Document]) -> Result<Self, Problem> {
        let mut scope = Self {
            world,
            variables: BTreeMap::new(),
            attributes: BTreeMap::new(),
            functions: BTreeMap::new(),
            blocks: BTreeMap::new(),
            known: RefCell::default(),
            busy: RefCell::default(),
        };
        for document in documents {
            for attribute in &document.attributes {
                scope.attributes.insert(attribute.name.clone(), attribute);
            }
            for block in &document.blocks {
                match block.kind.as_str() {
                    "variable" => {
                        scope.variables.insert(block.label.clone(), block);
                    }
                    "function" => {
                        scope.functions.insert(block.label.clone(), function(block)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(scope)
    }

    /// The value of a variable.
    pub(super) fn variable(&self, name: &str) -> Result<Value, Problem> {
        if let Some(value) = self.world.built_in(name) {
            return Ok(Value::string(value));
        }
        self.once(format!("variable `{name}`"), || match self.attributes.get(name) {
            Some(attribute) => self.global(name, attribute),
            None => self.declared(name),
        })
    }

    /// Evaluates something that others may ask for, too.
    fn once(
        &self,
        what: String,
        make: impl FnOnce() -> Result<Value, Problem>,
    ) -> Result<Value, Problem> {
        if let Some(value) = self.known.borrow().get(&what) {
            return Ok(value.clone());
        }
        if !self.busy.borrow_mut().insert(what.clone()) {
            return Err(Problem::new("bake-cycle", format!("{what} needs itself")));
        }
        let made = make();
        self.busy.borrow_mut().remove(&what);
        let value = made?;
        self.known.borrow_mut().insert(what, value.clone());
        Ok(value)
    }

    /// An attribute outside of all blocks; the environment counts if it is declared, too.
    fn global(&self, name: &str, attribute: &Attribute) -> Result<Value, Problem> {
        let value = self.value(&attribute.expr, &Locals::default())?;
        if !self.variables.contains_key(name) {
            return Ok(value);
        }
        self.overridden(name, Some(value))
            .map_err(|why| Problem::new("bake-variable", why).at(attribute.place))
    }

    fn declared(&self, name: &str) -> Result<Value, Problem> {
        let Some(block) = self.variables.get(name) else {
            let own = self.variables.keys().chain(self.attributes.keys()).map(String::as_str);
            let near = did_you_mean(name, own);
            return Err(eval(format!("there is no variable `{name}`")).near(near));
        };
        let wanted = declared_type(block)?;
        let default = match block.attribute("default") {
            Some(attribute) => {
                let value = self.value(&attribute.expr, &Locals::default())?;
                let kind = wanted.as_ref().unwrap_or(&Type::Any);
                Some(kind.convert(value).map_err(|why| {
                    let message = format!("the default of `{name}`: {why}");
                    Problem::new("bake-variable", message).at(attribute.expr.place)
                })?)
            }
            None => None,
        };
        let value = match &wanted {
            Some(wanted) => self.overridden_typed(name, wanted, default),
            None => self.overridden(name, default),
        };
        value.map_err(|why| Problem::new("bake-variable", why).at(block.place))
    }

    /// What the environment says of a variable, and whether it is JSON.
    fn environment(&self, name: &str, prefer_json: bool) -> Option<(&str, bool)> {
        let plain = self.world.lookup(name).map(|text| (text, false));
        if plain.is_some() && !prefer_json {
            return plain;
        }
        let json = format!("{name}{JSON_SUFFIX}");
        let is_other = self.variables.contains_key(&json) || self.world.built_in(&json).is_some();
        let json = if is_other { None } else { self.world.lookup(&json) };
        json.map(|text| (text, true)).or(plain)
    }

    /// A variable of a declared type; without a value it is null.
    fn overridden_typed(
        &self,
        name: &str,
        wanted: &Type,
        default: Option<Value>,
    ) -> Result<Value, String> {
        match self.environment(name, true) {
            None => Ok(default.unwrap_or(Value::Null)),
            Some((text, true)) => {
                let json = serde_json::from_str(text)
                    .map_err(|error| format!("{name}{JSON_SUFFIX} is no JSON: {error}"))?;
                let value = wanted.convert(Value::from_json(&json));
                value.map_err(|why| format!("{name}{JSON_SUFFIX}: {why}"))
            }
            Some((text, false)) if *wanted == Type::Any => {
                inferred(&default.unwrap_or(Value::Null))
                    .ok_or_else(|| format!("{name} cannot be set to a text, it has parts"))?
                    .read(name, text)
            }
            Some((text, false)) => wanted.read(name, text),
        }
    }

    /// A variable without a declared type: its default says what it is.
    fn overridden(&self, name: &str, default: Option<Value>) -> Result<Value, String> {
        match (self.environment(name, false), default) {
            (None, default) => Ok(default.unwrap_or_else(|| Value::string(""))),
            (Some((text, _)), None) => Ok(Value::string(text)),
            (Some((text, _)), Some(default)) => match inferred(&default) {
                Some(kind) => kind.read(name, text),
                None => Err(format!("{name} cannot be set to a text, its default has parts")),
            },
        }
    }

    /// All variables, evaluated and checked.
    pub(super) fn check_variables(&self) -> Result<Vec<Variable>, Vec<Problem>> {
        let mut list = Vec::new();
        for (name, block) in &self.variables {
            if self.world.built_in(name).is_some() {
                continue;
            }
            let value = self.variable(name).map_err(|problem| vec![problem.at(block.place)])?;
            let declared = declared_type(block).map_err(|problem| vec![problem])?;
            let description = match block.attribute("description") {
                Some(attribute) => {
                    let value = self.value(&attribute.expr, &Locals::default());
                    let value = value.map_err(|problem| vec![problem])?;
                    value.to_text().unwrap_or_default()
                }
                None => String::new(),
            };
            let value = match &value {
                Value::Null => None,
                primitive if primitive.is_primitive() => primitive.to_text().ok(),
                other => Some(other.to_json().to_string()),
            };
            let kind = declared.map(|kind| kind.friendly()).unwrap_or_default();
            list.push(Variable { name: name.clone(), description, kind, value });
        }
        let broken: Vec<Problem> = self
            .variables
            .iter()
            .flat_map(|(name, block)| block.blocks.iter().map(move |rule| (name, rule)))
            .filter_map(|(name, rule)| self.check_rule(name, rule).err())
            .collect();
        if broken.is_empty() { Ok(list) } else { Err(broken) }
    }

    /// One `validation` of a variable.
    fn check_rule(&self, name: &str, rule: &Block) -> Result<(), Problem> {
        let invalid = |message: String| Problem::new("bake-validation", message);
        let Some(condition) = rule.attribute("condition") else {
            return Err(
                invalid(format!("a validation of `{name}` has no condition")).at(rule.place)
            );
        };
        let at = condition.expr.place;
        let value = self.value(&condition.expr, &Locals::default())?;
        let holds = value.to_bool().map_err(|why| invalid(format!("a condition: {why}")).at(at))?;
        if holds {
            return Ok(());
        }
        let message = match rule.attribute("error_message") {
            Some(message) => self.value(&message.expr, &Locals::default())?.to_text().ok(),
            None => None,
        };
        let message = message.unwrap_or_else(|| format!("`{name}` has no valid value"));
        Err(invalid(message).at(at))
    }

    /// Functions that can't be called are mistakes even when nobody does.
    pub(super) fn call_user(&self, name: &str, values: Vec<Value>) -> Result<Value, Problem> {
        let function = &self.functions[name];
        let (given, wanted) = (values.len(), function.parameters.len());
        if given < wanted || (given > wanted && function.variadic.is_none()) {
            return Err(eval(format!("`{name}` takes {wanted} arguments, not {given}")));
        }
        let mut values = values.into_iter();
        let mut names: BTreeMap<String, Value> =
            function.parameters.iter().cloned().zip(values.by_ref()).collect();
        if let Some(variadic) = &function.variadic {
            names.insert(variadic.clone(), Value::List(values.collect()));
        }
        let what = format!("function `{name}`");
        if !self.busy.borrow_mut().insert(what.clone()) {
            return Err(Problem::new("bake-cycle", format!("{what} calls itself")));
        }
        let result = self.value(function.result, &Locals { names, outer: None });
        self.busy.borrow_mut().remove(&what);
        result
    }

    /// Adds a group or a target under the name that it has.
    pub(super) fn add_block(&mut self, kind: &'static str, name: &str, placed: Placed<'a>) {
        self.blocks.entry((kind, name.to_owned())).or_default().push(placed);
    }

    fn named_block(&self, kind: &str, name: &str) -> Result<&Placed<'a>, Problem> {
        let of_kind = || self.blocks.iter().filter(|((other, _), _)| *other == kind);
        let found = of_kind().find(|((_, known), _)| known == name);
        // Of several with one name, the last one is meant.
        found.and_then(|(_, blocks)| blocks.last()).ok_or_else(|| {
            let near = did_you_mean(name, of_kind().map(|((_, known), _)| known.as_str()));
            eval(format!("there is no {kind} `{name}`")).near(near)
        })
    }

    /// `target.NAME.ATTRIBUTE`: what the block says itself, nothing inherited.
    pub(super) fn block_attribute(
        &self,
        kind: &str,
        name: &str,
        attribute: &str,
    ) -> Result<Value, Problem> {
        let (block, names) = self.named_block(kind, name)?;
        if attribute == "name" {
            return Ok(Value::string(name));
        }
        let shape = target::shape(kind, attribute).ok_or_else(|| {
            let near = did_you_mean(attribute, target::attributes(kind));
            eval(format!("a {kind} has no attribute `{attribute}`")).near(near)
        })?;
        let Some(found) = block.attribute(attribute) else {
            return Ok(if attribute == "description" { Value::string("") } else { Value::Null });
        };
        self.once(format!("{kind}.{name}.{attribute}"), || {
            let locals = Locals { names: names.clone(), outer: None };
            let value = self.value(&found.expr, &locals)?;
            let shaped = Shape::value(shape, &value);
            shaped.map_err(|why| eval(format!("{attribute}: {why}")).at(found.expr.place))
        })
    }

    /// `target.NAME`: all its attributes.
    pub(super) fn block_value(&self, kind: &str, name: &str) -> Result<Value, Problem> {
        let mut map = BTreeMap::from([("name".to_owned(), Value::string(name))]);
        for attribute in target::attributes(kind) {
            map.insert(attribute.to_owned(), self.block_attribute(kind, name, attribute)?);
        }
        Ok(Value::Map(map))
    }
}

fn function(block: &Block) -> Result<Function<'_>, Problem> {
    let name = &block.label;
    let wrong = |message: String| Problem::new("bake-function", message).at(block.place);
    let params = block
        .attribute("params")
        .ok_or_else(|| wrong(format!("function `{name}` has no params")))?;
    let result = block
        .attribute("result")
        .ok_or_else(|| wrong(format!("function `{name}` has no result")))?;
    let idents = || wrong(format!("params of `{name}` are names: `params = [a, b]`"));
    let parameters = match &params.expr.kind {
        ExprKind::Hcl(expression) => match expression.as_ref() {
            Expression::Array(names) => names
                .iter()
                .map(|name| name.as_variable().map(|name| name.as_str().to_owned()))
                .collect::<Option<Vec<_>>>(),
            _ => None,
        },
        ExprKind::Json(json) => json
            .as_array()
            .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect()),
    };
    let variadic = match block.attribute("variadic_params").map(|found| &found.expr.kind) {
        None => None,
        Some(ExprKind::Hcl(expression)) => {
            Some(expression.as_variable().ok_or_else(idents)?.as_str().to_owned())
        }
        Some(ExprKind::Json(json)) => Some(json.as_str().ok_or_else(idents)?.to_owned()),
    };
    Ok(Function { parameters: parameters.ok_or_else(idents)?, variadic, result: &result.expr })
}

/// The type that a variable declares.
fn declared_type(block: &Block) -> Result<Option<Type>, Problem> {
    let Some(attribute) = block.attribute("type") else { return Ok(None) };
    if matches!(&attribute.expr.kind, ExprKind::Hcl(expr) if expr.is_null()) {
        return Ok(None);
    }
    let parsed = Type::parse(&attribute.expr);
    parsed.map(Some).map_err(|why| Problem::new("bake-variable", why).at(attribute.expr.place))
}

//! Evaluating expressions: HCL's, over the tree that its parser gives, and those of JSON, whose
//! texts are templates.
//!
//! Names are looked up when they are needed, so that the order of definitions does not matter.

use std::collections::BTreeMap;

use hcl_edit::expr::{
    BinaryOp, BinaryOperator, Conditional, Expression, ForExpr, FuncCall, Object, ObjectKey,
    Traversal, TraversalOperator, UnaryOperator,
};
use hcl_edit::template::{Directive, Element, Strip, Template};
use serde_json::Value as Json;

use super::problem::{Place, Problem};
use super::scope::Scope;
use super::syntax::{Expr, ExprKind, place};
use super::types::Type;
use super::value::{Number, Value, unified};
use super::{calls, functions};
use crate::diagnostic::did_you_mean;

/// How deep expressions may be nested.
const DEPTH: usize = 200;
/// Bytes that a template may make.
const TEXT_LIMIT: usize = 4 << 20;

/// Names that are known in a part of an expression alone: parameters, elements of `for`, a matrix.
#[derive(Debug, Default)]
pub(super) struct Locals<'a> {
    pub(super) names: BTreeMap<String, Value>,
    pub(super) outer: Option<&'a Locals<'a>>,
}

impl Locals<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        self.names.get(name).or_else(|| self.outer?.find(name))
    }
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) place: Place,
    pub(super) locals: &'a Locals<'a>,
    depth: usize,
}

impl<'a> Frame<'a> {
    /// The place of a part: what JSON quotes has none of its own.
    fn at(&self, part: &impl hcl_edit::Span) -> Place {
        match self.place.span {
            Some(_) => place(self.place.file, part.span()),
            None => self.place,
        }
    }

    fn with<'b>(&self, locals: &'b Locals<'b>) -> Frame<'b> {
        Frame { place: self.place, locals, depth: self.depth }
    }

    fn deeper(self) -> Result<Frame<'a>, Problem> {
        if self.depth == DEPTH {
            return Err(eval("expressions are nested too deep").at(self.place));
        }
        Ok(Frame { depth: self.depth + 1, ..self })
    }
}

/// An expression that has no value.
pub(super) fn eval(message: impl Into<String>) -> Problem {
    Problem::new("bake-expression", message)
}

type Evaluated = Result<Value, Problem>;

impl Scope<'_> {
    /// The value of an expression.
    pub(super) fn value(&self, expr: &Expr, locals: &Locals<'_>) -> Evaluated {
        let frame = Frame { place: expr.place, locals, depth: 0 };
        match &expr.kind {
            ExprKind::Hcl(expression) => self.hcl(expression, frame),
            ExprKind::Json(json) => self.json(json, frame),
        }
    }

    fn json(&self, json: &Json, frame: Frame<'_>) -> Evaluated {
        match json {
            Json::String(text) => self.json_text(text, frame),
            Json::Array(values) => {
                let values = values.iter().map(|value| self.json(value, frame));
                Ok(Value::List(values.collect::<Result<_, _>>()?))
            }
            Json::Object(map) => {
                let mut object = BTreeMap::new();
                for (key, value) in map {
                    let key = self.json_text(key, frame)?.to_text().map_err(eval)?;
                    object.insert(key, self.json(value, frame)?);
                }
                Ok(Value::Map(object))
            }
            other => Ok(Value::from_json(other)),
        }
    }

    fn json_text(&self, text: &str, frame: Frame<'_>) -> Evaluated {
        if !text.contains("${") && !text.contains("%{") {
            return Ok(Value::string(text));
        }
        let template = text.parse::<Template>();
        let template = template.map_err(|error| {
            let why = error.message().replace('\n', "; ");
            eval(format!("`{text}` is no template: {why}")).at(frame.place)
        })?;
        self.template_value(&template, frame)
    }

    pub(super) fn hcl(&self, expression: &Expression, frame: Frame<'_>) -> Evaluated {
        let frame = frame.deeper()?;
        let result = match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(number) => {
                let number = Number::parse(&number.value().to_string());
                number.map(Value::Number).ok_or_else(|| eval("this is no number"))
            }
            Expression::String(text) => Ok(Value::string(text.as_str())),
            Expression::Array(values) => {
                let values = values.iter().map(|value| self.hcl(value, frame));
                Ok(Value::List(values.collect::<Result<_, _>>()?))
            }
            Expression::Object(object) => self.object(object, frame),
            Expression::StringTemplate(template) => self.template_value(template, frame),
            Expression::HeredocTemplate(heredoc) => {
                self.template(&heredoc.template, (false, false), frame).map(Value::String)
            }
            Expression::Parenthesis(inner) => self.hcl(inner.inner(), frame),
            Expression::Variable(name) => self.name(name.as_str(), frame),
            Expression::Conditional(conditional) => self.conditional(conditional, frame),
            Expression::FuncCall(call) => self.call(call, frame),
            Expression::Traversal(traversal) => self.traversal(traversal, frame),
            Expression::UnaryOp(operation) => {
                let value = self.hcl(&operation.expr, frame)?;
                match operation.operator.value() {
                    UnaryOperator::Neg => value.to_number().map(|number| {
                        let zero = Number::Int(0);
                        Value::Number(zero.combine(number, i128::checked_sub, |a, b| a - b))
                    }),
                    UnaryOperator::Not => value.to_bool().map(|value| Value::Bool(!value)),
                }
                .map_err(eval)
            }
            Expression::BinaryOp(operation) => self.binary(operation, frame),
            Expression::ForExpr(expression) => self.for_expression(expression, frame),
        };
        result.map_err(|problem| problem.at(frame.at(expression)))
    }

    fn name(&self, name: &str, frame: Frame<'_>) -> Evaluated {
        if let Some(value) = frame.locals.find(name) {
            return Ok(value.clone());
        }
        if name == "target" || name == "group" {
            return Err(eval(format!(
                "`{name}` alone has no value; write `{name}.NAME.ATTRIBUTE`"
            )));
        }
        self.variable(name)
    }

    fn object(&self, object: &Object, frame: Frame<'_>) -> Evaluated {
        let mut map = BTreeMap::new();
        for (key, value) in object {
            let key = match key {
                // A bare name is a key, not a variable.
                ObjectKey::Ident(name) | ObjectKey::Expression(Expression::Variable(name)) => {
                    name.as_str().to_owned()
                }
                ObjectKey::Expression(expression) => self
                    .hcl(expression, frame)?
                    .to_text()
                    .map_err(|why| eval(format!("a key: {why}")).at(frame.at(expression)))?,
            };
            map.insert(key, self.hcl(value.expr(), frame)?);
        }
        Ok(Value::Map(map))
    }

    /// A template that is one interpolation and nothing else has its value, of whatever kind.
    fn template_value(&self, template: &Template, frame: Frame<'_>) -> Evaluated {
        if let [Element::Interpolation(only)] = elements(template).as_slice() {
            return self.hcl(&only.expr, frame);
        }
        self.template(template, (false, false), frame).map(Value::String)
    }

    /// `edges` says whether blanks at the begin and at the end are stripped.
    fn template(
        &self,
        template: &Template,
        edges: (bool, bool),
        frame: Frame<'_>,
    ) -> Result<String, Problem> {
        let elements = elements(template);
        let mut text = String::new();
        for (index, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    let before = index.checked_sub(1).map(|before| elements[before]);
                    let strip_start = before.map_or(edges.0, |element| strips(element).1);
                    let strip_end = elements.get(index + 1).map_or(edges.1, |next| strips(next).0);
                    let mut literal = literal.value().as_str();
                    if strip_start {
                        literal = literal.trim_start();
                    }
                    if strip_end {
                        literal = literal.trim_end();
                    }
                    text.push_str(literal);
                }
                Element::Interpolation(interpolation) => {
                    let value = self.hcl(&interpolation.expr, frame)?;
                    let part = value.to_text().map_err(|why| {
                        eval(format!("within a text {why}")).at(frame.at(&interpolation.expr))
                    })?;
                    text.push_str(&part);
                }
                Element::Directive(directive) => {
                    text.push_str(&self.directive(directive, frame)?);
                }
            }
            if text.len() > TEXT_LIMIT {
                let message = format!("this makes a text of more than {TEXT_LIMIT} bytes");
                return Err(eval(message).at(frame.place));
            }
        }
        Ok(text)
    }

    fn directive(&self, directive: &Directive, frame: Frame<'_>) -> Result<String, Problem> {
        match directive {
            Directive::If(directive) => {
                let condition = self.condition(&directive.if_expr.cond_expr, frame)?;
                let start = ends(directive.if_expr.strip);
                let end = begins(directive.endif_expr.strip);
                match (&directive.else_expr, condition) {
                    (None, true) => self.template(&directive.if_expr.template, (start, end), frame),
                    (None, false) => Ok(String::new()),
                    (Some(other), true) => {
                        let edges = (start, begins(other.strip));
                        self.template(&directive.if_expr.template, edges, frame)
                    }
                    (Some(other), false) => {
                        self.template(&other.template, (ends(other.strip), end), frame)
                    }
                }
            }
            Directive::For(directive) => {
                let each = &directive.for_expr;
                let collection = self.hcl(&each.collection_expr, frame)?;
                let edges = (ends(each.strip), begins(directive.endfor_expr.strip));
                let mut text = String::new();
                for (key, value) in collection.to_pairs().map_err(eval)? {
                    let key_name = each.key_var.as_ref().map(|name| name.as_str());
                    let locals = element((key_name, key), (each.value_var.as_str(), value), frame);
                    text.push_str(&self.template(&each.template, edges, frame.with(&locals))?);
                }
                Ok(text)
            }
        }
    }

    fn condition(&self, expression: &Expression, frame: Frame<'_>) -> Result<bool, Problem> {
        let value = self.hcl(expression, frame)?;
        let condition = value.to_bool();
        condition.map_err(|why| eval(format!("a condition: {why}")).at(frame.at(expression)))
    }

    /// Both results get the same kind; that of the other one does not matter when it has none.
    fn conditional(&self, conditional: &Conditional, frame: Frame<'_>) -> Evaluated {
        let (chosen, other) = if self.condition(&conditional.cond_expr, frame)? {
            (&conditional.true_expr, &conditional.false_expr)
        } else {
            (&conditional.false_expr, &conditional.true_expr)
        };
        let value = self.hcl(chosen, frame)?;
        match self.hcl(other, frame) {
            // A list and a set are sets.
            Ok(Value::Set(_)) if matches!(value, Value::List(_)) => {
                Ok(Value::set(value.to_elements().map_err(eval)?.to_vec()))
            }
            Ok(other) if other.is_primitive() && value.is_primitive() => {
                Ok(unified(vec![value, other]).swap_remove(0))
            }
            _ => Ok(value),
        }
    }

    fn binary(&self, operation: &BinaryOp, frame: Frame<'_>) -> Evaluated {
        use BinaryOperator as Op;
        let operator = *operation.operator.value();
        let left = self.hcl(&operation.lhs_expr, frame)?;
        let right = self.hcl(&operation.rhs_expr, frame)?;
        let numbers = || {
            let left = left.to_number().map_err(|why| eval(why).at(frame.at(&operation.lhs_expr)));
            let right =
                || right.to_number().map_err(|why| eval(why).at(frame.at(&operation.rhs_expr)));
            Ok::<_, Problem>((left?, right()?))
        };
        let bools = || Ok::<_, String>((left.to_bool()?, right.to_bool()?));
        let ordered = |wanted: fn(std::cmp::Ordering) -> bool| {
            numbers().map(|(a, b)| Value::Bool(wanted(a.compare(b))))
        };
        match operator {
            Op::Eq => Ok(Value::Bool(left == right)),
            Op::NotEq => Ok(Value::Bool(left != right)),
            Op::Less => ordered(std::cmp::Ordering::is_lt),
            Op::LessEq => ordered(std::cmp::Ordering::is_le),
            Op::Greater => ordered(std::cmp::Ordering::is_gt),
            Op::GreaterEq => ordered(std::cmp::Ordering::is_ge),
            Op::And => bools().map(|(a, b)| Value::Bool(a && b)).map_err(eval),
            Op::Or => bools().map(|(a, b)| Value::Bool(a || b)).map_err(eval),
            Op::Plus => numbers().map(|(a, b)| functions::add(a, b)),
            Op::Minus => numbers().map(|(a, b)| functions::subtract(a, b)),
            Op::Mul => numbers().map(|(a, b)| functions::multiply(a, b)),
            Op::Div => numbers().and_then(|(a, b)| functions::divide(a, b).map_err(eval)),
            Op::Mod => numbers().and_then(|(a, b)| functions::modulo(a, b).map_err(eval)),
        }
    }

    fn for_expression(&self, each: &ForExpr, frame: Frame<'_>) -> Evaluated {
        let collection = self.hcl(&each.intro.collection_expr, frame)?;
        let pairs = collection.to_pairs();
        let pairs = pairs.map_err(|why| eval(why).at(frame.at(&each.intro.collection_expr)))?;
        let (mut list, mut map) = (Vec::new(), BTreeMap::<String, Value>::new());
        for (key, value) in pairs {
            let key_name = each.intro.key_var.as_ref().map(|name| name.as_str());
            let locals = element((key_name, key), (each.intro.value_var.as_str(), value), frame);
            let frame = frame.with(&locals);
            if let Some(condition) = &each.cond
                && !self.condition(&condition.expr, frame)?
            {
                continue;
            }
            let value = self.hcl(&each.value_expr, frame)?;
            let Some(key) = &each.key_expr else {
                list.push(value);
                continue;
            };
            let name = self.hcl(key, frame)?.to_text().map_err(eval)?;
            if each.grouping {
                let group = map.entry(name).or_insert_with(|| Value::List(Vec::new()));
                if let Value::List(values) = group {
                    values.push(value);
                }
            } else if map.insert(name.clone(), value).is_some() {
                let message = format!("two elements have the key `{name}`");
                return Err(eval(message).at(frame.at(key)).help("`...` after the value groups"));
            }
        }
        Ok(if each.key_expr.is_some() { Value::Map(map) } else { Value::List(list) })
    }

    fn call(&self, call: &FuncCall, frame: Frame<'_>) -> Evaluated {
        let name = call.name.name.as_str();
        let argument = |index| {
            let missing = || eval(format!("`{name}` needs an argument"));
            call.args.get(index).ok_or_else(missing)
        };
        match name {
            "try" => {
                argument(0)?;
                let mut failed = None;
                for argument in &call.args {
                    match self.hcl(argument, frame) {
                        Ok(value) => return Ok(value),
                        Err(problem) => failed = Some(problem),
                    }
                }
                return Err(failed.unwrap_or_else(|| eval("nothing could be tried")));
            }
            "can" => return Ok(Value::Bool(self.hcl(argument(0)?, frame).is_ok())),
            "convert" => {
                let wanted = Type::from_hcl(argument(1)?).map_err(eval)?;
                return wanted.convert(self.hcl(argument(0)?, frame)?).map_err(eval);
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(call.args.len());
        for argument in &call.args {
            values.push(self.hcl(argument, frame)?);
        }
        if call.args.expand_final()
            && let Some(last) = values.pop()
        {
            values.extend(last.to_elements().map_err(eval)?.iter().cloned());
        }
        if self.functions.contains_key(name) {
            return self.call_user(name, values);
        }
        let world = (self.world.now, self.world.home.as_str());
        if let Some(result) = calls::call(name, &values, world) {
            return result.map_err(|why| eval(format!("{name}: {why}")));
        }
        let mut known: Vec<&str> = calls::names().collect();
        known.extend(self.functions.keys().map(String::as_str));
        let near = did_you_mean(name, known);
        Err(eval(format!("there is no function `{name}`")).near(near))
    }

    fn traversal(&self, traversal: &Traversal, frame: Frame<'_>) -> Evaluated {
        let operators: Vec<&TraversalOperator> =
            traversal.operators.iter().map(hcl_edit::Decorated::value).collect();
        if let Expression::Variable(root) = &traversal.expr
            && frame.locals.find(root.as_str()).is_none()
            && let kind @ ("target" | "group") = root.as_str()
        {
            let Some(TraversalOperator::GetAttr(name)) = operators.first() else {
                return Err(eval(format!("write `{kind}.NAME.ATTRIBUTE`")));
            };
            let attribute = operators.get(1);
            let (value, rest) = match attribute {
                Some(TraversalOperator::GetAttr(attribute)) => {
                    let value = self.block_attribute(kind, name.as_str(), attribute.as_str())?;
                    (value, &operators[2..])
                }
                _ => (self.block_value(kind, name.as_str())?, &operators[1..]),
            };
            return self.walk(value, rest, frame);
        }
        let value = self.hcl(&traversal.expr, frame)?;
        self.walk(value, &operators, frame)
    }

    fn walk(&self, value: Value, way: &[&TraversalOperator], frame: Frame<'_>) -> Evaluated {
        let Some((first, rest)) = way.split_first() else { return Ok(value) };
        let next = match first {
            TraversalOperator::GetAttr(name) => attribute(&value, name.as_str()),
            TraversalOperator::LegacyIndex(index) => {
                functions::index(&value, &Value::Number(Number::Int(i128::from(**index))))
            }
            TraversalOperator::Index(key) => functions::index(&value, &self.hcl(key, frame)?),
            TraversalOperator::AttrSplat(_) => {
                // `.*` reaches over attributes alone.
                let is_attr =
                    |way: &&&TraversalOperator| matches!(way, TraversalOperator::GetAttr(_));
                let reach = rest.iter().take_while(is_attr).count();
                let list = self.splat(value, &rest[..reach], frame)?;
                return self.walk(list, &rest[reach..], frame);
            }
            TraversalOperator::FullSplat(_) => return self.splat(value, rest, frame),
        };
        let next = next.map_err(|why| eval(why).at(frame.at(*first)))?;
        self.walk(next, rest, frame)
    }

    fn splat(&self, value: Value, way: &[&TraversalOperator], frame: Frame<'_>) -> Evaluated {
        let values = match value {
            Value::Null => Vec::new(),
            Value::List(values) | Value::Set(values) => values,
            other => vec![other],
        };
        let values = values.into_iter().map(|value| self.walk(value, way, frame));
        Ok(Value::List(values.collect::<Result<_, _>>()?))
    }
}

fn element<'a>(
    (key_name, key): (Option<&str>, Value),
    (value_name, value): (&str, Value),
    frame: Frame<'a>,
) -> Locals<'a> {
    let mut names = BTreeMap::new();
    if let Some(name) = key_name {
        names.insert(name.to_owned(), key);
    }
    names.insert(value_name.to_owned(), value);
    Locals { names, outer: Some(frame.locals) }
}

fn attribute(value: &Value, name: &str) -> Result<Value, String> {
    match value {
        Value::Map(map) => {
            let found = map.get(name).cloned();
            found.ok_or_else(|| {
                let near = did_you_mean(name, map.keys().map(String::as_str));
                let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                format!("there is no attribute `{name}`{hint}")
            })
        }
        other => Err(format!("{} has no attribute `{name}`", other.kind())),
    }
}

fn elements(template: &Template) -> Vec<&Element> {
    template.iter().collect()
}

fn begins(strip: Strip) -> bool {
    matches!(strip, Strip::Start | Strip::Both)
}

fn ends(strip: Strip) -> bool {
    matches!(strip, Strip::End | Strip::Both)
}

/// Whether an element strips what is before it, and what is after it.
fn strips(element: &Element) -> (bool, bool) {
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(one) => (begins(one.strip), ends(one.strip)),
        Element::Directive(directive) => match directive.as_ref() {
            Directive::If(one) => (begins(one.if_expr.strip), ends(one.endif_expr.strip)),
            Directive::For(one) => (begins(one.for_expr.strip), ends(one.endfor_expr.strip)),
        },
    }
}

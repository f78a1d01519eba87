//! Types of variables: `list(string)` and the like.

use std::collections::BTreeMap;

use super::syntax::{Expr, ExprKind};
use super::value::{Number, Value, unified};
use hcl_edit::expr::{Expression, ObjectKey};

/// A type constraint.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Any,
    String,
    Number,
    Bool,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>),
    Tuple(Vec<Type>),
    Object(BTreeMap<String, Type>),
}

impl Type {
    /// Reads a type expression.
    pub(super) fn parse(expr: &Expr) -> Result<Self, String> {
        match &expr.kind {
            ExprKind::Hcl(expression) => Self::from_hcl(expression),
            ExprKind::Json(serde_json::Value::String(text)) => {
                let expression = text.parse::<Expression>();
                Self::from_hcl(&expression.map_err(|_| format!("`{text}` is no type"))?)
            }
            ExprKind::Json(_) => Err("a type is a keyword like `string`".to_owned()),
        }
    }

    pub(super) fn from_hcl(expression: &Expression) -> Result<Self, String> {
        let known = "types are string, number, bool, any, list(…), set(…), map(…), object({…}) and \
                     tuple([…])";
        match expression {
            Expression::Variable(name) => match name.as_str() {
                "string" => Ok(Self::String),
                "number" => Ok(Self::Number),
                "bool" => Ok(Self::Bool),
                "any" => Ok(Self::Any),
                other => Err(format!("`{other}` is no type; {known}")),
            },
            Expression::Parenthesis(inner) => Self::from_hcl(inner.inner()),
            Expression::FuncCall(call) => {
                let name = call.name.name.as_str();
                let argument = call.args.get(0).filter(|_| call.args.len() == 1);
                let argument = argument.ok_or_else(|| format!("`{name}` takes one type"))?;
                match (name, argument) {
                    ("list", inner) => Ok(Self::List(Box::new(Self::from_hcl(inner)?))),
                    ("set", inner) => Ok(Self::Set(Box::new(Self::from_hcl(inner)?))),
                    ("map", inner) => Ok(Self::Map(Box::new(Self::from_hcl(inner)?))),
                    ("tuple", Expression::Array(types)) => {
                        Ok(Self::Tuple(types.iter().map(Self::from_hcl).collect::<Result<_, _>>()?))
                    }
                    ("object", Expression::Object(fields)) => {
                        let mut types = BTreeMap::new();
                        for (key, value) in fields {
                            let name = match key {
                                ObjectKey::Ident(name) => name.as_str().to_owned(),
                                ObjectKey::Expression(Expression::String(name)) => {
                                    name.as_str().to_owned()
                                }
                                ObjectKey::Expression(Expression::Variable(name)) => {
                                    name.as_str().to_owned()
                                }
                                ObjectKey::Expression(_) => return Err(known.to_owned()),
                            };
                            types.insert(name, Self::from_hcl(value.expr())?);
                        }
                        Ok(Self::Object(types))
                    }
                    (other, _) => Err(format!("`{other}` is no type; {known}")),
                }
            }
            _ => Err(known.to_owned()),
        }
    }

    /// How it is called.
    pub(super) fn friendly(&self) -> String {
        match self {
            Self::Any => "any type".to_owned(),
            Self::String => "string".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::List(inner) => format!("list of {}", inner.friendly()),
            Self::Set(inner) => format!("set of {}", inner.friendly()),
            Self::Map(inner) => format!("map of {}", inner.friendly()),
            Self::Tuple(_) => "tuple".to_owned(),
            Self::Object(_) => "object".to_owned(),
        }
    }

    /// The value as one of this type.
    pub(super) fn convert(&self, value: Value) -> Result<Value, String> {
        let wrong =
            |value: &Value| format!("{} is needed, this is {}", self.friendly(), value.kind());
        if value == Value::Null {
            return Ok(value);
        }
        match self {
            Self::Any => Ok(value),
            Self::String => value.to_text().map(Value::String),
            Self::Number => value.to_number().map(Value::Number),
            Self::Bool => value.to_bool().map(Value::Bool),
            Self::List(inner) => match value {
                Value::List(values) | Value::Set(values) => {
                    Ok(Value::List(inner.convert_all(values)?))
                }
                other => Err(wrong(&other)),
            },
            Self::Set(inner) => match value {
                Value::List(values) | Value::Set(values) => {
                    Ok(Value::set(inner.convert_all(values)?))
                }
                other => Err(wrong(&other)),
            },
            Self::Map(inner) => match value {
                Value::Map(map) => {
                    let (keys, values): (Vec<_>, Vec<_>) = map.into_iter().unzip();
                    Ok(Value::Map(keys.into_iter().zip(inner.convert_all(values)?).collect()))
                }
                other => Err(wrong(&other)),
            },
            Self::Tuple(types) => match value {
                Value::List(values) if values.len() == types.len() => {
                    let pairs = types.iter().zip(values);
                    let values = pairs.map(|(inner, value)| inner.convert(value));
                    Ok(Value::List(values.collect::<Result<_, _>>()?))
                }
                other => Err(wrong(&other)),
            },
            Self::Object(types) => match value {
                Value::Map(mut map) => {
                    let mut converted = BTreeMap::new();
                    for (name, inner) in types {
                        let value = map.remove(name);
                        let value =
                            value.ok_or_else(|| format!("attribute `{name}` is missing"))?;
                        converted.insert(name.clone(), inner.convert(value)?);
                    }
                    Ok(Value::Map(converted))
                }
                other => Err(wrong(&other)),
            },
        }
    }

    fn convert_all(&self, values: Vec<Value>) -> Result<Vec<Value>, String> {
        let values: Vec<Value> =
            values.into_iter().map(|value| self.convert(value)).collect::<Result<_, _>>()?;
        Ok(if *self == Self::Any { unified(values) } else { values })
    }

    /// A text from outside as a value of this type: a primitive, or one CSV record of them.
    pub(super) fn read(&self, name: &str, text: &str) -> Result<Value, String> {
        let fields = || crate::csv::fields(text).map_err(|why| format!("{name}: {why}"));
        let all = |inner: &Self| -> Result<Vec<Value>, String> {
            fields()?.iter().map(|field| inner.read_primitive(name, field)).collect()
        };
        match self {
            Self::List(inner) => Ok(Value::List(all(inner)?)),
            Self::Set(inner) => Ok(Value::set(all(inner)?)),
            Self::Tuple(types) => {
                let fields = fields()?;
                if fields.len() != types.len() {
                    let (wanted, given) = (types.len(), fields.len());
                    return Err(format!("{name} takes {wanted} elements, not {given}"));
                }
                let pairs = types.iter().zip(&fields);
                let values = pairs.map(|(inner, field)| inner.read_primitive(name, field));
                Ok(Value::List(values.collect::<Result<_, _>>()?))
            }
            Self::Map(inner) => {
                let mut map = BTreeMap::new();
                for field in fields()? {
                    let parts: Vec<&str> = field.split(':').collect();
                    let [key, value] = parts.as_slice() else {
                        return Err(format!("{name}: `{field}` is not KEY:VALUE"));
                    };
                    map.insert((*key).to_owned(), inner.read_primitive(name, value)?);
                }
                Ok(Value::Map(map))
            }
            _ => self.read_primitive(name, text),
        }
    }

    fn read_primitive(&self, name: &str, text: &str) -> Result<Value, String> {
        match self {
            Self::String => Ok(Value::string(text)),
            Self::Bool => {
                let value = crate::dockerfile::parse_bool(text);
                value.map(Value::Bool).ok_or_else(|| format!("{name}=`{text}` is no bool"))
            }
            Self::Number => {
                let value = Number::parse(text);
                value.map(Value::Number).ok_or_else(|| format!("{name}=`{text}` is no number"))
            }
            other => Err(format!(
                "{name} cannot be set to a text, it is of type {}; {name}_JSON takes JSON",
                other.friendly()
            )),
        }
    }
}

/// The type of a value that has none declared, if a text can be read as one of it.
pub(super) fn inferred(value: &Value) -> Option<Type> {
    match value {
        Value::Null | Value::String(_) => Some(Type::String),
        Value::Bool(_) => Some(Type::Bool),
        Value::Number(_) => Some(Type::Number),
        Value::List(_) | Value::Set(_) | Value::Map(_) => None,
    }
}

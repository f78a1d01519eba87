//! Values of bake's language, and what they convert to.
//!
//! HCL tells tuples from lists and objects from maps. Nothing that bake prints shows the
//! difference, so that here each pair is one kind.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    /// A tuple or a list.
    List(Vec<Value>),
    /// In order and without repetition.
    Set(Vec<Value>),
    /// An object or a map: both are walked in the order of their keys.
    Map(BTreeMap<String, Value>),
}

impl Value {
    pub(crate) fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    pub(crate) fn int(number: usize) -> Self {
        Self::Number(Number::Int(number as i128))
    }

    pub(crate) fn strings<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        Self::List(texts.into_iter().map(Self::string).collect())
    }

    /// A set of these values.
    pub(crate) fn set(values: Vec<Self>) -> Self {
        let mut values = unified(values);
        values.sort_by(compare);
        values.dedup();
        Self::Set(values)
    }

    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) => "an object",
        }
    }

    pub(crate) fn is_primitive(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Number(_) | Self::String(_))
    }

    /// As a text.
    pub(crate) fn to_text(&self) -> Result<String, String> {
        match self {
            Self::String(text) => Ok(text.clone()),
            Self::Number(number) => Ok(number.to_string()),
            Self::Bool(value) => Ok(value.to_string()),
            other => Err(format!("a string is needed, this is {}", other.kind())),
        }
    }

    pub(crate) fn to_number(&self) -> Result<Number, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::String(text) => {
                Number::parse(text).ok_or_else(|| format!("a number is needed, `{text}` is none"))
            }
            other => Err(format!("a number is needed, this is {}", other.kind())),
        }
    }

    pub(crate) fn to_bool(&self) -> Result<bool, String> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::String(text) if text == "true" || text == "1" => Ok(true),
            Self::String(text) if text == "false" || text == "0" => Ok(false),
            other => Err(format!("a bool is needed, this is {}", other.kind())),
        }
    }

    /// The elements of a list or a set.
    pub(crate) fn to_elements(&self) -> Result<&[Self], String> {
        match self {
            Self::List(values) | Self::Set(values) => Ok(values),
            other => Err(format!("a list is needed, this is {}", other.kind())),
        }
    }

    /// Keys and values of what can be walked.
    pub(crate) fn to_pairs(&self) -> Result<Vec<(Self, Self)>, String> {
        match self {
            Self::List(values) => {
                let pairs = values.iter().cloned().enumerate();
                Ok(pairs.map(|(index, value)| (Self::int(index), value)).collect())
            }
            Self::Set(values) => {
                Ok(values.iter().map(|value| (value.clone(), value.clone())).collect())
            }
            Self::Map(map) => {
                let pairs = map.iter();
                Ok(pairs.map(|(key, value)| (Self::string(key), value.clone())).collect())
            }
            other => Err(format!("{} has no elements to go through", other.kind())),
        }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(number) => number.to_json(),
            Self::String(text) => Json::String(text.clone()),
            Self::List(values) | Self::Set(values) => {
                Json::Array(values.iter().map(Self::to_json).collect())
            }
            Self::Map(map) => {
                let pairs = map.iter().map(|(key, value)| (key.clone(), value.to_json()));
                Json::Object(pairs.collect())
            }
        }
    }

    /// From JSON.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => {
                Self::Number(Number::parse(&number.to_string()).unwrap_or(Number::Int(0)))
            }
            Json::String(text) => Self::String(text.clone()),
            Json::Array(values) => Self::List(values.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                let pairs = map.iter().map(|(key, value)| (key.clone(), Self::from_json(value)));
                Self::Map(pairs.collect())
            }
        }
    }
}

/// Primitive values of several kinds become texts, as in a list of one type.
pub(crate) fn unified(values: Vec<Value>) -> Vec<Value> {
    let kind = |value: &Value| std::mem::discriminant(value);
    let mut kinds = values.iter().filter(|value| **value != Value::Null).map(kind);
    let first = kinds.next();
    let is_mixed = kinds.any(|kind| Some(kind) != first);
    if !is_mixed || values.iter().any(|value| !value.is_primitive() && *value != Value::Null) {
        return values;
    }
    let text = |value: Value| match value.to_text() {
        Ok(text) => Value::String(text),
        Err(_) => value,
    };
    values.into_iter().map(text).collect()
}

/// An order of all values: that of sets.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.compare(*b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => a.to_json().to_string().cmp(&b.to_json().to_string()),
    }
}

/// A number: whole as long as it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    /// Reads a decimal number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(int) = text.parse() {
            return Some(Self::Int(int));
        }
        let starts = |c: char| c.is_ascii_digit() || c == '-' || c == '+' || c == '.';
        if !text.starts_with(starts) {
            return None;
        }
        text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::from_float)
    }

    pub(crate) fn from_float(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() < 1e18 {
            Self::Int(float as i128)
        } else {
            Self::Float(float)
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of bake files are small")]
    pub(crate) fn to_float(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// A whole number that fits; `what` names it in the message.
    pub(crate) fn to_int(self, what: &str) -> Result<i64, String> {
        match self {
            Self::Int(int) => i64::try_from(int).map_err(|_| format!("{what} is too large")),
            Self::Float(_) => Err(format!("{what} has to be a whole number")),
        }
    }

    pub(crate) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (a, b) => a.to_float().total_cmp(&b.to_float()),
        }
    }

    /// `a op b`, whole if both are and the result fits.
    pub(crate) fn combine(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        real: fn(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(int) = whole(a, b)
        {
            return Self::Int(int);
        }
        Self::from_float(real(self.to_float(), other.to_float()))
    }

    fn to_json(self) -> serde_json::Value {
        let text = self.to_string();
        let number = text.parse::<serde_json::Number>();
        number.map_or(serde_json::Value::String(text), serde_json::Value::Number)
    }
}

impl std::fmt::Display for Number {
    /// Without an exponent, and with 15 digits at most: sums of tenths are tenths.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(int) => int.fmt(f),
            Self::Float(float) => {
                let rounded = format!("{float:.14e}").parse().unwrap_or(*float);
                write!(f, "{rounded}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_without_noise() {
        let sum = Number::Float(0.1).combine(Number::Float(0.2), i128::checked_add, |a, b| a + b);
        assert_eq!(sum.to_string(), "0.3");
        assert_eq!(Number::parse("1e3").map(|n| n.to_string()).as_deref(), Some("1000"));
        assert_eq!(Number::parse("1.50").map(|n| n.to_string()).as_deref(), Some("1.5"));
        assert_eq!(Number::parse("nan"), None);
    }

    #[test]
    fn sets_are_in_order() {
        let set = Value::set(vec![Value::string("b"), Value::int(1), Value::string("b")]);
        assert_eq!(set, Value::Set(vec![Value::string("1"), Value::string("b")]));
    }
}

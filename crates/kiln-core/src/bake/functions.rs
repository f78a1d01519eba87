//! Functions over numbers, lists, sets and objects.

use std::collections::BTreeMap;

use super::sorted;
use super::value::{Number, Value, unified};

type Called = Result<Value, String>;

pub(super) fn add(a: Number, b: Number) -> Value {
    Value::Number(a.combine(b, i128::checked_add, |a, b| a + b))
}

pub(super) fn subtract(a: Number, b: Number) -> Value {
    Value::Number(a.combine(b, i128::checked_sub, |a, b| a - b))
}

pub(super) fn multiply(a: Number, b: Number) -> Value {
    Value::Number(a.combine(b, i128::checked_mul, |a, b| a * b))
}

pub(super) fn divide(a: Number, b: Number) -> Called {
    if b.to_float() == 0.0 {
        return Err("nothing can be divided by zero".to_owned());
    }
    let whole = |a: i128, b: i128| if a % b == 0 { a.checked_div(b) } else { None };
    Ok(Value::Number(a.combine(b, whole, |a, b| a / b)))
}

/// What is left of a division that is cut towards zero.
pub(super) fn modulo(a: Number, b: Number) -> Called {
    if b.to_float() == 0.0 {
        return Err("nothing can be divided by zero".to_owned());
    }
    Ok(Value::Number(a.combine(b, i128::checked_rem, |a, b| a % b)))
}

/// `list[number]` or `object["key"]`
pub(super) fn index(value: &Value, key: &Value) -> Called {
    match value {
        Value::List(values) => {
            let position = key.to_number()?.to_int("an index")?;
            let found = usize::try_from(position).ok().and_then(|position| values.get(position));
            found.cloned().ok_or_else(|| {
                format!("there is no element {position}, the list has {}", values.len())
            })
        }
        Value::Map(map) => {
            let key = key.to_text()?;
            map.get(&key).cloned().ok_or_else(|| format!("there is no key `{key}`"))
        }
        other => Err(format!("{} has no elements", other.kind())),
    }
}

pub(super) fn has_index(value: &Value, key: &Value) -> Called {
    match value {
        Value::List(_) | Value::Map(_) => Ok(Value::Bool(index(value, key).is_ok())),
        other => Err(format!("{} has no elements", other.kind())),
    }
}

pub(super) fn length(value: &Value) -> Called {
    match value {
        Value::List(values) | Value::Set(values) => Ok(Value::int(values.len())),
        Value::Map(map) => Ok(Value::int(map.len())),
        other => Err(format!("{} has no length; strlen() is for texts", other.kind())),
    }
}

pub(super) fn element(list: &Value, position: &Value) -> Called {
    let values = list.to_elements()?;
    let position = position.to_number()?.to_int("an index")?;
    if values.is_empty() {
        return Err("an empty list has no elements".to_owned());
    }
    let position = position.rem_euclid(values.len() as i64) as usize;
    Ok(values[position].clone())
}

pub(super) fn slice(list: &Value, start: &Value, end: &Value) -> Called {
    let values = list.to_elements()?;
    let bound = |bound: &Value, what: &str| -> Result<usize, String> {
        let number = bound.to_number()?.to_int(what)?;
        let number = usize::try_from(number).ok().filter(|number| *number <= values.len());
        number.ok_or_else(|| format!("{what} is not within the list"))
    };
    let (start, end) = (bound(start, "the start")?, bound(end, "the end")?);
    if start > end {
        return Err("the start is behind the end".to_owned());
    }
    Ok(Value::List(values[start..end].to_vec()))
}

pub(super) fn concat(lists: &[Value]) -> Called {
    let mut all = Vec::new();
    for list in lists {
        all.extend(list.to_elements()?.iter().cloned());
    }
    Ok(Value::List(all))
}

pub(super) fn contains(list: &Value, wanted: &Value) -> Called {
    Ok(Value::Bool(list.to_elements()?.contains(wanted)))
}

pub(super) fn index_of(list: &Value, wanted: &Value) -> Called {
    let values = list.to_elements()?;
    let found = values.iter().position(|value| value == wanted);
    found.map(Value::int).ok_or_else(|| "item not found".to_owned())
}

pub(super) fn distinct(list: &Value) -> Called {
    let mut kept: Vec<Value> = Vec::new();
    for value in unified(list.to_elements()?.to_vec()) {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    Ok(Value::List(kept))
}

pub(super) fn flatten(list: &Value) -> Called {
    fn into(values: &[Value], flat: &mut Vec<Value>) {
        for value in values {
            match value {
                Value::List(inner) | Value::Set(inner) => into(inner, flat),
                other => flat.push(other.clone()),
            }
        }
    }
    let mut flat = Vec::new();
    into(list.to_elements()?, &mut flat);
    Ok(Value::List(flat))
}

pub(super) fn compact(list: &Value) -> Called {
    let values = list.to_elements()?.iter();
    let is_there = |value: &&Value| !matches!(value, Value::Null) && **value != Value::string("");
    Ok(Value::List(values.filter(is_there).cloned().collect()))
}

pub(super) fn reverse_list(list: &Value) -> Called {
    Ok(Value::List(list.to_elements()?.iter().rev().cloned().collect()))
}

pub(super) fn sort(list: &Value) -> Called {
    let texts: Result<Vec<Value>, String> =
        list.to_elements()?.iter().map(|value| value.to_text().map(Value::String)).collect();
    Ok(Value::List(sorted(texts?)))
}

pub(super) fn chunk_list(list: &Value, size: &Value) -> Called {
    let values = list.to_elements()?;
    let size = usize::try_from(size.to_number()?.to_int("the size")?)
        .map_err(|_| "the size is negative".to_owned())?;
    let size = if size == 0 { values.len().max(1) } else { size };
    Ok(Value::List(values.chunks(size).map(|chunk| Value::List(chunk.to_vec())).collect()))
}

/// From 0 up to a limit, or from a start to a limit in steps.
pub(super) fn range(arguments: &[Value]) -> Called {
    let numbers: Vec<f64> = arguments
        .iter()
        .map(|value| Ok(value.to_number()?.to_float()))
        .collect::<Result<_, String>>()?;
    let (start, limit, step) = match numbers.as_slice() {
        [limit] => (0.0, *limit, if *limit < 0.0 { -1.0 } else { 1.0 }),
        [start, limit] => (*start, *limit, if limit < start { -1.0 } else { 1.0 }),
        [start, limit, step] => (*start, *limit, *step),
        _ => return Err("it takes one to three numbers".to_owned()),
    };
    if step == 0.0 || (limit - start) * step < 0.0 {
        return Err("the step does not lead to the limit".to_owned());
    }
    let mut values = Vec::new();
    let mut at = start;
    while (step > 0.0 && at < limit) || (step < 0.0 && at > limit) {
        if values.len() == 1024 {
            return Err("more than 1024 values were made".to_owned());
        }
        values.push(Value::Number(Number::from_float(at)));
        at += step;
    }
    Ok(Value::List(values))
}

pub(super) fn keys(map: &Value) -> Called {
    match map {
        Value::Map(map) => Ok(Value::strings(map.keys().cloned())),
        other => Err(format!("{} has no keys", other.kind())),
    }
}

pub(super) fn values(map: &Value) -> Called {
    match map {
        Value::Map(map) => Ok(Value::List(map.values().cloned().collect())),
        other => Err(format!("{} has no values", other.kind())),
    }
}

pub(super) fn lookup(map: &Value, key: &Value, default: Option<&Value>) -> Called {
    let Value::Map(map) = map else {
        return Err(format!("{} has no keys", map.kind()));
    };
    let key = key.to_text()?;
    let found = map.get(&key).or(default).cloned();
    found.ok_or_else(|| format!("there is no key `{key}`, and no default was given"))
}

pub(super) fn merge(maps: &[Value]) -> Called {
    let mut all = BTreeMap::new();
    for map in maps {
        match map {
            Value::Null => {}
            Value::Map(map) => all.extend(map.clone()),
            other => return Err(format!("objects are needed, this is {}", other.kind())),
        }
    }
    Ok(Value::Map(all))
}

pub(super) fn zip_map(keys: &Value, values: &Value) -> Called {
    let (keys, values) = (keys.to_elements()?, values.to_elements()?);
    if keys.len() != values.len() {
        return Err(format!("{} keys do not go with {} values", keys.len(), values.len()));
    }
    let pairs = keys.iter().zip(values).map(|(key, value)| Ok((key.to_text()?, value.clone())));
    Ok(Value::Map(pairs.collect::<Result<_, String>>()?))
}

/// The first that is neither null nor, of texts, nothing at all.
pub(super) fn coalesce(values: &[Value]) -> Called {
    let values = unified(values.to_vec());
    let found = values.into_iter().find(|value| *value != Value::Null);
    found.ok_or_else(|| "all values are null".to_owned())
}

pub(super) fn coalesce_list(lists: &[Value]) -> Called {
    for list in lists {
        if !list.to_elements()?.is_empty() {
            return Ok(list.clone());
        }
    }
    Err("all lists are empty".to_owned())
}

fn set_of(value: &Value) -> Result<Vec<Value>, String> {
    match Value::set(value.to_elements()?.to_vec()) {
        Value::Set(values) => Ok(values),
        _ => Ok(Vec::new()),
    }
}

/// The first set with others, one after the other.
pub(super) fn fold_sets(sets: &[Value], combine: fn(&[Value], &[Value]) -> Vec<Value>) -> Called {
    let Some((first, rest)) = sets.split_first() else {
        return Err("it takes sets".to_owned());
    };
    let mut result = set_of(first)?;
    for set in rest {
        result = combine(&result, &set_of(set)?);
    }
    Ok(Value::set(result))
}

pub(super) fn union(a: &[Value], b: &[Value]) -> Vec<Value> {
    a.iter().chain(b).cloned().collect()
}

pub(super) fn intersection(a: &[Value], b: &[Value]) -> Vec<Value> {
    a.iter().filter(|value| b.contains(value)).cloned().collect()
}

pub(super) fn difference(a: &[Value], b: &[Value]) -> Vec<Value> {
    a.iter().filter(|value| !b.contains(value)).cloned().collect()
}

pub(super) fn symmetric_difference(a: &[Value], b: &[Value]) -> Vec<Value> {
    union(&difference(a, b), &difference(b, a))
}

/// All combinations; a list if the first one is, else a set.
pub(super) fn product(sets: &[Value]) -> Called {
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for set in sets {
        let values = set.to_elements()?;
        rows = rows
            .iter()
            .flat_map(|row| {
                values.iter().map(|value| {
                    let mut row = row.clone();
                    row.push(value.clone());
                    row
                })
            })
            .collect();
    }
    let rows = rows.into_iter().map(Value::List).collect();
    let is_set = sets.iter().all(|set| matches!(set, Value::Set(_)));
    Ok(if is_set { Value::set(rows) } else { Value::List(rows) })
}

/// The least or the greatest number.
pub(super) fn extreme(numbers: &[Value], wanted: std::cmp::Ordering) -> Called {
    let mut best: Option<Number> = None;
    for number in numbers {
        let number = number.to_number()?;
        if best.is_none_or(|best| number.compare(best) == wanted) {
            best = Some(number);
        }
    }
    best.map(Value::Number).ok_or_else(|| "it takes at least one number".to_owned())
}

pub(super) fn parse_int(text: &Value, base: &Value) -> Called {
    let text = text.to_text()?;
    let base = base.to_number()?.to_int("the base")?;
    let radix = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
    let radix = radix.ok_or("the base is between 2 and 36")?;
    let number = i128::from_str_radix(&text, radix);
    let number = number.map_err(|_| format!("`{text}` is no number of base {base}"))?;
    Ok(Value::Number(Number::Int(number)))
}

/// `compare` as values: less than, equal, greater.
pub(super) fn ordered(a: &Value, b: &Value, wanted: fn(std::cmp::Ordering) -> bool) -> Called {
    Ok(Value::Bool(wanted(a.to_number()?.compare(b.to_number()?))))
}

//! Functions over texts: cutting, formatting, patterns, encodings, hashes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex_lite::Regex;
use sha2::Digest as _;

use super::value::{Number, Value};
use crate::csv::fields;

type Called = Result<Value, String>;

/// Columns that blanks may fill.
const WIDEST: usize = 1000;

pub(super) fn title(text: &str) -> String {
    let mut titled = String::new();
    let mut before = ' ';
    for c in text.chars() {
        if before.is_alphanumeric() || before == '_' || before == '\'' {
            titled.push(c);
        } else {
            titled.extend(c.to_uppercase());
        }
        before = c;
    }
    titled
}

/// Lines after the first get blanks in front.
pub(super) fn indent(spaces: &Value, text: &Value) -> Called {
    let spaces = usize::try_from(spaces.to_number()?.to_int("the indent")?)
        .ok()
        .filter(|spaces| *spaces <= WIDEST)
        .ok_or_else(|| format!("the indent is between 0 and {WIDEST}"))?;
    let between = format!("\n{}", " ".repeat(spaces));
    Ok(Value::string(text.to_text()?.replace('\n', &between)))
}

pub(super) fn substr(text: &Value, offset: &Value, length: &Value) -> Called {
    let chars: Vec<char> = text.to_text()?.chars().collect();
    let offset = offset.to_number()?.to_int("the offset")?;
    let length = length.to_number()?.to_int("the length")?;
    let count = chars.len() as i64;
    let start = if offset < 0 { (count + offset).max(0) } else { offset.min(count) };
    let end = if length < 0 { count } else { start.saturating_add(length).min(count) };
    Ok(Value::string(chars[start as usize..end as usize].iter().collect::<String>()))
}

/// `replace`: a search in slashes is plain text, too, in bake.
pub(super) fn split(separator: &Value, text: &Value) -> Called {
    let (separator, text) = (separator.to_text()?, text.to_text()?);
    if separator.is_empty() {
        return Ok(Value::strings(text.chars().map(String::from)));
    }
    Ok(Value::strings(text.split(separator.as_str())))
}

pub(super) fn join(arguments: &[Value]) -> Called {
    let separator = arguments[0].to_text()?;
    let mut parts = Vec::new();
    for list in &arguments[1..] {
        for value in list.to_elements()? {
            parts.push(value.to_text()?);
        }
    }
    Ok(Value::string(parts.join(&separator)))
}

fn pattern(text: &Value) -> Result<Regex, String> {
    let text = text.to_text()?;
    Regex::new(&text).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

/// What a match is: the text, its groups as a list, or as an object if they have names.
fn matched(regex: &Regex, captures: &regex_lite::Captures<'_>) -> Value {
    let group = |index: usize| {
        captures.get(index).map_or(Value::Null, |found| Value::string(found.as_str()))
    };
    if regex.captures_len() == 1 {
        return group(0);
    }
    let names: Vec<Option<&str>> = regex.capture_names().skip(1).collect();
    if names.iter().any(Option::is_some) {
        let named = names.iter().enumerate();
        let pairs = named.filter_map(|(index, name)| Some(((*name)?.to_owned(), group(index + 1))));
        return Value::Map(pairs.collect());
    }
    Value::List((1..regex.captures_len()).map(group).collect())
}

pub(super) fn regex(wanted: &Value, text: &Value) -> Called {
    let (regex, text) = (pattern(wanted)?, text.to_text()?);
    let captures = regex.captures(&text);
    captures
        .map(|captures| matched(&regex, &captures))
        .ok_or_else(|| "pattern did not match any part of the given string".to_owned())
}

pub(super) fn regex_all(wanted: &Value, text: &Value) -> Called {
    let (regex, text) = (pattern(wanted)?, text.to_text()?);
    let all = regex.captures_iter(&text).map(|captures| matched(&regex, &captures));
    Ok(Value::List(all.collect()))
}

pub(super) fn regex_replace(text: &Value, wanted: &Value, by: &Value) -> Called {
    let (regex, text, by) = (pattern(wanted)?, text.to_text()?, by.to_text()?);
    Ok(Value::string(regex.replace_all(&text, by.as_str()).into_owned()))
}

pub(super) fn hex(bytes: impl AsRef<[u8]>) -> Value {
    Value::string(bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    }))
}

pub(super) fn md5(text: &str) -> Value {
    hex(md5::Md5::digest(text))
}

pub(super) fn sha1(text: &str) -> Value {
    hex(sha1::Sha1::digest(text))
}

pub(super) fn sha256(text: &str) -> Value {
    hex(sha2::Sha256::digest(text))
}

pub(super) fn sha512(text: &str) -> Value {
    hex(sha2::Sha512::digest(text))
}

pub(super) fn base64_encode(text: &str) -> Value {
    Value::string(STANDARD.encode(text))
}

pub(super) fn base64_decode(text: &str) -> Called {
    let bytes = STANDARD.decode(text).map_err(|error| format!("this is no base64: {error}"))?;
    let text = String::from_utf8(bytes);
    text.map(Value::String).map_err(|_| "what is encoded is no text".to_owned())
}

pub(super) fn url_encode(text: &str) -> Value {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    Value::string(encoded)
}

/// A UUID of a name (RFC 9562, version 5).
pub(super) fn uuid_v5(namespace: &str, name: &str) -> Called {
    let known = |last: u8| {
        let mut bytes = [
            0x6b, 0xa7, 0xb8, 0, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30,
            0xc8,
        ];
        bytes[3] = last;
        bytes.to_vec()
    };
    let space = match namespace {
        "dns" => known(0x10),
        "url" => known(0x11),
        "oid" => known(0x12),
        "x500" => known(0x14),
        other => {
            let digits: String = other.chars().filter(|c| *c != '-').collect();
            let bytes: Option<Vec<u8>> = (0..16)
                .map(|at| u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok())
                .collect();
            bytes.ok_or_else(|| format!("`{other}` is no namespace"))?
        }
    };
    let mut hash = sha1::Sha1::new();
    hash.update(space);
    hash.update(name);
    let mut bytes: Vec<u8> = hash.finalize()[..16].to_vec();
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let Value::String(all) = hex(bytes) else { unreachable!("hex is a text") };
    let parts = [&all[..8], &all[8..12], &all[12..16], &all[16..20], &all[20..]];
    Ok(Value::string(parts.join("-")))
}

pub(super) fn csv_decode(text: &str) -> Called {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let Some(header) = lines.next() else { return Err("there is no header".to_owned()) };
    let names = fields(header)?;
    let mut rows = Vec::new();
    for line in lines {
        let fields = fields(line)?;
        if fields.len() != names.len() {
            return Err(format!("`{line}` has not as many fields as the header"));
        }
        let pairs = names.iter().cloned().zip(fields.into_iter().map(Value::String));
        rows.push(Value::Map(pairs.collect::<BTreeMap<_, _>>()));
    }
    Ok(Value::List(rows))
}

/// `format`: the verbs of Go that cty knows.
pub(super) fn format(template: &str, values: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    let mut next = 0;
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            text.push('%');
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| "+-# 0".contains(*c)) {
            flags.push(flag);
        }
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = Some(digits.parse::<usize>().unwrap_or(0));
        }
        if chars.next_if_eq(&'[').is_some() {
            let position: String = chars.by_ref().take_while(|c| *c != ']').collect();
            let position = position.parse::<usize>().ok().filter(|position| *position > 0);
            next = position.ok_or("`%[…]` needs a position from 1")? - 1;
        }
        let width = digits.parse().unwrap_or(0);
        if width > WIDEST || precision.is_some_and(|digits| digits > WIDEST) {
            return Err(format!("a width is at most {WIDEST}"));
        }
        let verb = chars.next().ok_or("the format ends within a verb")?;
        let value = values.get(next).ok_or_else(|| format!("`%{verb}` has no argument"))?;
        next += 1;
        let shown = verb_text(verb, value, (&flags, precision))?;
        text.push_str(&padded(&shown, &flags, width));
    }
    if next < values.len() && !template.contains("%[") {
        return Err("too many arguments".to_owned());
    }
    Ok(text)
}

fn padded(shown: &str, flags: &str, width: usize) -> String {
    let missing = width.saturating_sub(shown.chars().count());
    if flags.contains('-') {
        format!("{shown}{}", " ".repeat(missing))
    } else if flags.contains('0') {
        let sign = usize::from(shown.starts_with(['-', '+']));
        format!("{}{}{}", &shown[..sign], "0".repeat(missing), &shown[sign..])
    } else {
        format!("{}{shown}", " ".repeat(missing))
    }
}

fn verb_text(
    verb: char,
    value: &Value,
    (flags, precision): (&str, Option<usize>),
) -> Result<String, String> {
    let signed = |text: String| {
        if flags.contains('+') && !text.starts_with('-') { format!("+{text}") } else { text }
    };
    let int = || match value.to_number()? {
        Number::Int(int) => Ok(int),
        Number::Float(float) => Ok::<i128, String>(float.trunc() as i128),
    };
    let float = || Ok::<f64, String>(value.to_number()?.to_float());
    let digits = precision.unwrap_or(6);
    Ok(match verb {
        'v' if flags.contains('#') => value.to_json().to_string(),
        'v' if *value == Value::Null => "null".to_owned(),
        'v' if value.is_primitive() => value.to_text()?,
        'v' => value.to_json().to_string(),
        't' => value.to_bool()?.to_string(),
        'd' => signed(int()?.to_string()),
        'b' => format!("{:b}", int()?),
        'o' => format!("{:o}", int()?),
        'x' if !matches!(value, Value::Number(_)) => {
            hex(value.to_text()?).to_text().unwrap_or_default()
        }
        'x' => format!("{:x}", int()?),
        'X' => format!("{:X}", int()?),
        'e' => signed(exponent(float()?, digits, 'e')),
        'E' => signed(exponent(float()?, digits, 'E')),
        'f' => signed(format!("{:.digits$}", float()?)),
        'g' | 'G' => signed(value.to_number()?.to_string()),
        's' => {
            let text = value.to_text()?;
            precision.map_or(text.clone(), |count| text.chars().take(count).collect())
        }
        'q' => Value::string(value.to_text()?).to_json().to_string(),
        other => return Err(format!("`%{other}` is no verb")),
    })
}

/// At least two digits, and always a sign.
fn exponent(float: f64, digits: usize, letter: char) -> String {
    let text = format!("{float:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let number: i32 = exponent.parse().unwrap_or(0);
    let sign = if number < 0 { '-' } else { '+' };
    format!("{mantissa}{letter}{sign}{:02}", number.abs())
}

/// One text for each element of the lists; what is no list is the same for all.
pub(super) fn format_list(arguments: &[Value]) -> Called {
    let template = arguments[0].to_text()?;
    let lists = arguments[1..].iter().filter_map(|value| value.to_elements().ok());
    let lengths: Vec<usize> = lists.map(<[Value]>::len).collect();
    let count = lengths.first().copied().unwrap_or(1);
    if lengths.iter().any(|length| *length != count) {
        return Err("the lists have different lengths".to_owned());
    }
    let row = |at: usize| {
        let values: Vec<Value> = arguments[1..]
            .iter()
            .map(|value| value.to_elements().map_or(value.clone(), |list| list[at].clone()))
            .collect();
        format(&template, &values).map(Value::String)
    };
    Ok(Value::List((0..count).map(row).collect::<Result<_, _>>()?))
}

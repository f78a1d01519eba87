//! `$NAME` and `${NAME:-default}` in compose files and `.env`, as compose has them.

/// What an unset variable becomes, and what went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// `${NAME:?text}` of a variable that is not set.
    Required(String, String),
    /// Not the syntax.
    Syntax(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Required(name, text) if text.is_empty() => {
                write!(f, "required variable {name} is missing a value")
            }
            Self::Required(name, text) => {
                write!(f, "required variable {name} is missing a value: {text}")
            }
            Self::Syntax(text) => write!(f, "invalid interpolation format: `{text}`"),
        }
    }
}

/// A text with its variables replaced; `unset` hears of those that are not set and have no default.
pub(super) fn interpolate<'v>(
    text: &str,
    lookup: &impl Fn(&str) -> Option<&'v str>,
    unset: &mut impl FnMut(&str),
) -> Result<String, Failed> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| Failed::Syntax(text.to_owned()))?;
            done.push_str(&braced(&after[..end], lookup, unset)?);
            rest = &after[end + 1..];
        } else {
            let end = name_length(rest);
            if end == 0 {
                return Err(Failed::Syntax(text.to_owned()));
            }
            done.push_str(&value(&rest[..end], lookup, unset));
            rest = &rest[end..];
        }
    }
    done.push_str(rest);
    Ok(done)
}

/// Where the brace ends that is open.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if index > 0 && bytes[index - 1] == b'$' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn value<'v>(
    name: &str,
    lookup: &impl Fn(&str) -> Option<&'v str>,
    unset: &mut impl FnMut(&str),
) -> String {
    lookup(name).map_or_else(
        || {
            unset(name);
            String::new()
        },
        str::to_owned,
    )
}

/// What stands in braces.
fn braced<'v>(
    text: &str,
    lookup: &impl Fn(&str) -> Option<&'v str>,
    unset: &mut impl FnMut(&str),
) -> Result<String, Failed> {
    let (name, rest) = text.split_at(name_length(text));
    let wrong = || Failed::Syntax(format!("${{{text}}}"));
    if name.is_empty() {
        return Err(wrong());
    }
    let mut operators = [":-", "-", ":?", "?", ":+", "+"].into_iter();
    let Some(operator) = operators.find(|operator| rest.starts_with(operator)) else {
        return if rest.is_empty() { Ok(value(name, lookup, unset)) } else { Err(wrong()) };
    };
    let word = &rest[operator.len()..];
    // With a colon an empty value is none.
    let known = lookup(name).filter(|value| !operator.starts_with(':') || !value.is_empty());
    match (operator.trim_start_matches(':'), known) {
        ("+", Some(_)) | ("-", None) => interpolate(word, lookup, unset),
        ("+", None) => Ok(String::new()),
        ("?", None) => Err(Failed::Required(name.to_owned(), interpolate(word, lookup, unset)?)),
        (_, Some(value)) => Ok(value.to_owned()),
        (_, None) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            _ => None,
        };
        match interpolate(text, &lookup, &mut |_| ()) {
            Ok(text) => text,
            Err(failed) => format!("error: {failed}"),
        }
    }

    #[test]
    fn variables_are_replaced_as_compose_does_it() {
        assert_eq!(of("x${A}$A-$$A ${NO}"), "xaa-$A ");
        assert_eq!(of("${EMPTY:-d}|${EMPTY-d}|${NO-${A}}|${A:+b}|${NO:+b}"), "d||a|b|");
        assert_eq!(of("${NO:?set it}"), "error: required variable NO is missing a value: set it");
        assert_eq!(of("${A"), "error: invalid interpolation format: `${A`");
        assert_eq!(of("${A!}"), "error: invalid interpolation format: `${A!}`");
        assert_eq!(of("${1}"), "error: invalid interpolation format: `${1}`");
    }
}

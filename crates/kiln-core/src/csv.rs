//! One CSV record (RFC 4180): `key=value,key=value`, as docker's flags are written.

/// A quote that is not closed, or one inside an unquoted field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the quotes in `{0}` do not match")]
pub struct QuotesError(String);

/// Bake files say what is wrong in words, with the place of the attribute.
impl From<QuotesError> for String {
    fn from(error: QuotesError) -> Self {
        error.to_string()
    }
}

/// The fields of a record, unquoted.
///
/// # Errors
/// When its quotes do not match.
pub fn fields(text: &str) -> Result<Vec<String>, QuotesError> {
    let bad = || QuotesError(text.to_owned());
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted).ok_or_else(bad)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(bad());
            }
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(bad()),
        }
    }
}

/// The text up to the closing quote (`""` is one quote), and what follows it.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

/// One field, quoted if it has to be.
pub(crate) fn quoted(field: &str) -> String {
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_as_go_splits_them() {
        assert_eq!(fields("a,b=c,").unwrap(), ["a", "b=c", ""]);
        assert_eq!(fields(r#""a,b",c"#).unwrap(), ["a,b", "c"]);
        assert_eq!(fields(r#""say ""hi""""#).unwrap(), [r#"say "hi""#]);
        for bad in [r#""a"#, r#"a"b"#, r#""a"b"#] {
            assert_eq!(fields(bad), Err(QuotesError(bad.to_owned())));
        }
        assert_eq!(quoted("a,b"), r#""a,b""#);
    }
}

//! `key=value,key=value`: one CSV record (RFC 4180), as docker's flags are written.

/// Why a text is not such a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsvError {
    /// A quote that is not closed, or one inside an unquoted field.
    #[error("the quotes in `{0}` do not match")]
    Quotes(String),
    /// A field without `=`.
    #[error("`{0}` must be a key=value pair")]
    NoValue(String),
}

/// The fields of a record, unquoted.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let bad = || CsvError::Quotes(text.to_owned());
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

/// A record of pairs; keys in lower case and without blanks around them.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, CsvError> {
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(CsvError::NoValue(field)),
    };
    fields(text)?.into_iter().map(pair).collect()
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
            assert_eq!(fields(bad), Err(CsvError::Quotes(bad.to_owned())));
        }
    }

    #[test]
    fn pairs_need_a_value() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs("ID=x,src=a=b").unwrap(), [pair("id", "x"), pair("src", "a=b")]);
        assert_eq!(pairs("id").unwrap_err().to_string(), "`id` must be a key=value pair");
    }
}

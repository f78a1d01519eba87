//! `key=value,key=value`: one CSV record, as docker's flags are written.

use kiln_core::csv::{self, QuotesError};

/// Why a text is not such a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsvError {
    /// Its quotes do not match.
    #[error(transparent)]
    Quotes(#[from] QuotesError),
    /// A field without `=`.
    #[error("`{0}` must be a key=value pair")]
    NoValue(String),
}

/// The fields of a record, unquoted.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    Ok(csv::fields(text)?)
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
    fn pairs_need_a_value() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs("ID=x,src=a=b").unwrap(), [pair("id", "x"), pair("src", "a=b")]);
        assert_eq!(pairs("id").unwrap_err().to_string(), "`id` must be a key=value pair");
    }
}

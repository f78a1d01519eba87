//! `.env` files: `NAME=VALUE` lines with comments, quotes and variables, as compose reads them.

use std::collections::BTreeMap;

use super::interpolate::interpolate;

/// Reads a file; `environment` answers for variables that the file does not set before.
///
/// # Errors
/// A line that is none, and quotes that do not end.
pub fn read(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    let text = text.replace("\r\n", "\n");
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        let line_end = rest.find('\n').unwrap_or(rest.len());
        if rest.starts_with('#') {
            rest = &rest[line_end..];
            continue;
        }
        let line = &rest[..line_end];
        let body = rest.strip_prefix("export ").unwrap_or(rest);
        let end = body.find(['=', ':', '\n']).unwrap_or(body.len());
        let name = body[..end].trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-[]".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(format!("`{line}` is not NAME=VALUE"));
        }
        if !body[end..].starts_with(['=', ':']) {
            // A name alone is what the environment says of it.
            if let Some(value) = environment.get(name) {
                variables.insert(name.to_owned(), value.clone());
            }
            rest = &body[end..];
            continue;
        }
        let (value, after) = value(&body[end + 1..], line)?;
        let value = match value {
            Quoted::As(text) => text,
            Quoted::Expanded(text) => {
                let lookup = |name: &str| {
                    environment.get(name).or_else(|| variables.get(name)).map(String::as_str)
                };
                interpolate(&text, &lookup, &mut |_| ())
                    .map_err(|failed| format!("{name}: {failed}"))?
            }
        };
        variables.insert(name.to_owned(), value);
        rest = after;
    }
}

enum Quoted {
    As(String),
    Expanded(String),
}

/// A value, and what follows it.
fn value<'t>(text: &'t str, line: &str) -> Result<(Quoted, &'t str), String> {
    let text = text.trim_start_matches([' ', '\t']);
    let open = |quote: char| format!("the {quote} in `{line}` does not end");
    if let Some(inner) = text.strip_prefix('\'') {
        let end = inner.find('\'').ok_or_else(|| open('\''))?;
        return Ok((Quoted::As(inner[..end].to_owned()), &inner[end + 1..]));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((Quoted::Expanded(value), &inner[at + 1..])),
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some('$') => value.push_str("$$"),
                    Some(c @ ('"' | '\\')) => value.push(c),
                    Some(c) => value.extend(['\\', c]),
                    None => break,
                },
                c => value.push(c),
            }
        }
        return Err(open('"'));
    }
    let end = text.find('\n').unwrap_or(text.len());
    let value = text[..end].split(" #").next().unwrap_or_default();
    Ok((Quoted::Expanded(value.trim().to_owned()), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_comments_quotes_and_variables() {
        let environment = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
        let text =
            "# a\nA=1 # one\nexport B=\"x\\n$A ${HOME}\"\nC='$A'\nD: d\nHOME\nE=\nF=${B:-}y\n";
        let read = read(text, &environment).unwrap();
        let shown: Vec<String> =
            read.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            ["A=1", "B=x\n1 /root", "C=$A", "D=d", "E=", "F=x\n1 /rooty", "HOME=/root"]
        );
    }

    #[test]
    fn mistakes_are_told() {
        let none = BTreeMap::new();
        assert_eq!(read("A='x\n", &none).unwrap_err(), "the ' in `A='x` does not end");
        assert_eq!(read("a b=c\n", &none).unwrap_err(), "`a b=c` is not NAME=VALUE");
    }
}

//! Requirements as Poetry writes them, in the form of everybody else (PEP 508).

use toml::Value;

/// A dependency of Poetry's: `pytest = "^7.1"` is `pytest>=7.1,<8`. `None`: it is no distribution of an
/// index. Markers are left out.
pub(crate) fn requirement(name: &str, what: &Value) -> Option<String> {
    let part = |key: &str| what.get(key);
    if ["git", "path", "url", "file"].iter().any(|key| part(key).is_some()) {
        return None;
    }
    let version = what.as_str().or_else(|| part("version")?.as_str()).unwrap_or("*");
    let extras = part("extras").and_then(Value::as_array).into_iter().flatten();
    let extras: Vec<&str> = extras.filter_map(Value::as_str).collect();
    let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
    Some(format!("{name}{extras}{}", specifiers(version)))
}

/// Poetry's constraints; what has alternatives (`||`) allows everything.
fn specifiers(constraint: &str) -> String {
    if constraint.contains('|') {
        return String::new();
    }
    let each = constraint.split(',').map(|one| specifier(one.trim()));
    each.filter(|one| !one.is_empty()).collect::<Vec<_>>().join(",")
}

fn specifier(one: &str) -> String {
    let digits = one.find(|c: char| c.is_ascii_digit()).unwrap_or(one.len());
    let (operator, version) = one.split_at(digits);
    let version = version.trim();
    let parts: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
    match operator.trim() {
        _ if parts.is_empty() => String::new(),
        // Up to the next change of the first part that is not nought.
        "^" => {
            let first = parts.iter().position(|part| *part != 0).unwrap_or(parts.len() - 1);
            format!(">={version},<{}", after(&parts[..=first]))
        }
        "~" => format!(">={version},<{}", after(&parts[..parts.len().min(2)])),
        "" | "=" => format!("=={version}"),
        operator => format!("{operator}{version}"),
    }
}

/// The version after all that begin with those parts.
fn after(parts: &[u64]) -> String {
    let last = parts.len() - 1;
    let next = parts.iter().enumerate().map(|(at, part)| part + u64::from(at == last));
    next.map(|part| part.to_string()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_those_of_everybody_else() {
        let table: toml::Table = r#"
caret = "^7.1.2"
zero = "^0.19.0"
zeros = "^0.0.3"
major = "^3"
tilde = "~1.2.3"
tilde-major = "~1"
exact = "1.2"
range = ">=1.0, <2"
any = "*"
prefix = "==2.*"
either = "^1 || ^2"
extras = { version = "^1.0", extras = ["a", "b"], optional = true }
git = { git = "https://host/x.git" }
"#
        .parse()
        .unwrap();
        let found: Vec<String> = table.iter().filter_map(|(k, v)| requirement(k, v)).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        any
        caret>=7.1.2,<8
        either
        exact==1.2
        extras[a,b]>=1.0,<2
        major>=3,<4
        prefix==2.*
        range>=1.0,<2
        tilde>=1.2.3,<1.3
        tilde-major>=1,<2
        zero>=0.19.0,<0.20
        zeros>=0.0.3,<0.0.4
        ");
    }
}

//! Reads `WWW-Authenticate` (RFC 9110, 11.6.1): one or more challenges, each a scheme and its
//! parameters, separated by the same commas that separate parameters.

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme, in lower case.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value; names are in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of one header. What cannot be read is passed over.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return challenges;
        }
        let (word, after) = split_token(rest);
        if word.is_empty() {
            // Not a token: go on behind the next comma.
            rest = rest.split_once(',').map_or("", |(_, after)| after);
            continue;
        }
        let unspaced = after.trim_start_matches([' ', '\t']);
        match (unspaced.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) if !is_padding(value) => {
                let (value, after) = split_value(value.trim_start_matches([' ', '\t']));
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (None, _) => {
                challenges
                    .push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
            // A bare value without a name, as of `Negotiate dG9rZW4=`.
            (Some(value), _) => rest = value.trim_start_matches('='),
        }
    }
}

/// Whether what follows a `=` shows that it ended a base64 text, and no name.
fn is_padding(value: &str) -> bool {
    value.is_empty() || value.starts_with(['=', ','])
}

fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> String {
        let challenge = |challenge: &Challenge| {
            let parameters: Vec<String> = challenge
                .parameters
                .iter()
                .map(|(name, value)| format!("{name}=<{value}>"))
                .collect();
            format!("{}({})", challenge.scheme, parameters.join(" "))
        };
        let challenges: Vec<String> = parse(header).iter().map(challenge).collect();
        challenges.join(" ")
    }

    #[test]
    fn challenges_as_registries_send_them() {
        assert_eq!(
            shown(
                r#"Bearer realm="https://auth.example/token",service="a b",scope="repository:x/y:pull,push""#
            ),
            "bearer(realm=<https://auth.example/token> service=<a b> scope=<repository:x/y:pull,push>)"
        );
        assert_eq!(shown(r#"Basic realm="a \"b\", c""#), r#"basic(realm=<a "b", c>)"#);
        assert_eq!(
            shown(r#"BASIC Realm=x, Bearer realm = "y" , error=invalid_token"#),
            "basic(realm=<x>) bearer(realm=<y> error=<invalid_token>)"
        );
        assert_eq!(shown("Negotiate dG9rZW4=, Basic"), "negotiate() basic()");
        assert_eq!(shown("Negotiate, NTLM"), "negotiate() ntlm()");
        assert_eq!(shown("Bearer realm=\"unfinished"), "bearer(realm=<unfinished>)");
        assert_eq!(shown(""), "");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(header in "\\PC{0,60}") {
            parse(&header);
        }

        #[test]
        fn quoted_values_survive(value in "[ -~]{0,30}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let challenges = parse(&format!("Bearer a=\"{quoted}\", b=c"));
            proptest::prop_assert_eq!(challenges.len(), 1);
            proptest::prop_assert_eq!(challenges[0].parameter("a"), Some(value.as_str()));
            proptest::prop_assert_eq!(challenges[0].parameter("b"), Some("c"));
        }
    }
}

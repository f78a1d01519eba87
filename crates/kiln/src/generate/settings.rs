//! Environment variables that a project's sources read: what tells it where its database and its
//! broker are.
//!
//! Found as text, not by running anything: `os.environ["X"]`, `os.getenv("X")`, `env("X")` and
//! `config("X")` of environs, django-environ and decouple, and fields of pydantic's `BaseSettings`.

use std::collections::BTreeMap;

use super::sources::Sources;

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: String,
    /// What it is without being set: a text of the source; `None` where that is an error.
    pub(crate) default: Option<String>,
}

/// What may stand before a quoted name. The flag: whether a second argument is a default.
const READERS: [&str; 6] = ["environ[", "environ.get(", "getenv(", "env(", "config(", "env."];

/// All variables, by name; where a name is read twice, one with a default counts.
pub(crate) fn find(sources: &Sources, is_of_project: impl Fn(&str) -> bool) -> Vec<Setting> {
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (_, text) in sources.python().filter(|(path, _)| is_of_project(path)) {
        for (name, default) in read_by_calls(text).into_iter().chain(read_by_pydantic(text)) {
            let known = found.entry(name).or_insert_with(|| default.clone());
            if known.is_none() {
                *known = default;
            }
        }
    }
    found.into_iter().map(|(name, default)| Setting { name, default }).collect()
}

fn read_by_calls(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for reader in READERS {
            for (at, _) in line.match_indices(reader) {
                let mut rest = &line[at + reader.len()..];
                if reader == "env." {
                    let Some((kind, after)) = rest.split_once('(') else { continue };
                    if !kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                        continue;
                    }
                    rest = after;
                }
                let Some((name, after)) = quoted(rest) else { continue };
                if !is_variable(name) {
                    continue;
                }
                let default = match after.trim_start().strip_prefix(',') {
                    Some(second) => default_of(second),
                    // These give None where nothing is set.
                    None if reader == "environ.get(" || reader == "getenv(" => Some(String::new()),
                    None => None,
                };
                found.push((name.to_owned(), default));
            }
        }
    }
    found
}

/// The default among the arguments after the name: the first one, or `default=`; `cast=` is none.
fn default_of(arguments: &str) -> Option<String> {
    let first = arguments.trim_start();
    let value = match first.split_once("default=") {
        Some((_, value)) => value,
        None if first.starts_with("cast=") => return None,
        None => first,
    };
    Some(quoted(value).map_or(String::new(), |(text, _)| text.to_owned()))
}

/// Fields of classes below `BaseSettings`, with the prefix that the class names.
fn read_by_pydantic(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !(line.starts_with("class ")
            && line.contains("Settings)")
            && text.contains("BaseSettings"))
        {
            continue;
        }
        let mut prefix = String::new();
        let mut fields: Vec<(String, Option<String>)> = Vec::new();
        while let Some(line) =
            lines.next_if(|line| line.is_empty() || line.starts_with([' ', '\t']))
        {
            if let Some((_, rest)) = line.split_once("env_prefix")
                && let Some((value, _)) = rest.find(['"', '\'']).and_then(|at| quoted(&rest[at..]))
            {
                value.clone_into(&mut prefix);
            }
            let body =
                line.strip_prefix("    ").or_else(|| line.strip_prefix('\t')).unwrap_or_default();
            let Some((name, rest)) = body.split_once(':') else { continue };
            let is_name =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_name
                || name.starts_with(|c: char| c.is_ascii_digit())
                || name == "model_config"
                || name == "else"
                || name == "try"
                // The call says it.
                || READERS.iter().any(|reader| rest.contains(reader))
            {
                continue;
            }
            let default = rest.split_once('=').map(|(_, value)| {
                let value = value.trim();
                let value = value.strip_prefix("Field(").map_or(value, |inner| {
                    inner.trim_start().strip_prefix("default=").unwrap_or(inner)
                });
                quoted(value).map_or(String::new(), |(text, _)| text.to_owned())
            });
            fields.push((name.to_owned(), default));
        }
        let named = |(name, default): (String, Option<String>)| {
            (format!("{prefix}{name}").to_uppercase(), default)
        };
        found.extend(fields.into_iter().map(named));
    }
    found
}

/// A quoted text at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    text[1..].split_once(quote)
}

fn is_variable(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        let sources = Sources::of(&[("app/settings.py", text)]);
        let show = |setting: &Setting| format!("{}={:?}", setting.name, setting.default);
        find(&sources, |_| true).iter().map(show).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn calls_are_found_with_their_defaults() {
        insta::assert_snapshot!(found(r#"
DEBUG = os.environ.get('DEBUG')
KEY = os.environ["SECRET_KEY"]
URL = os.getenv("DATABASE_URL", "sqlite:///db.sqlite")
REDIS = env.str("REDIS_URL", default="redis://localhost")
MAIL = config("MAIL_URL")
SALT = config("SALT", cast=Secret)
PORT = config("PORT", cast=int, default="25")
not_one = config("lower")
"#), @r#"
        DATABASE_URL=Some("sqlite:///db.sqlite")
        DEBUG=Some("")
        MAIL_URL=None
        PORT=Some("25")
        REDIS_URL=Some("redis://localhost")
        SALT=None
        SECRET_KEY=None
        "#);
    }

    #[test]
    fn fields_of_pydantic_have_their_prefix() {
        insta::assert_snapshot!(found(r#"
class Settings(BaseSettings):
    """Settings."""

    model_config = SettingsConfigDict(env_prefix="ARES_")

    port: int = Field(default=8000, ge=1)
    database_url: str = "sqlite:///ares.db"
    secret: SecretStr
    KEY: SecretStr = config("APP_KEY", cast=SecretStr)

    @property
    def other(self) -> str:
        return "x"
"#), @r#"
        APP_KEY=None
        ARES_DATABASE_URL=Some("sqlite:///ares.db")
        ARES_PORT=Some("")
        ARES_SECRET=None
        "#);
    }
}

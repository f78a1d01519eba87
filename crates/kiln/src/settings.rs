//! `kiln.toml` as commands read it: what is not about registries (`kiln_registry` reads that by itself).
//!
//! ```toml
//! [cache]
//! keep-storage = "20GB"    # the store holds no more after a build, images with names aside
//! keep-duration = "30d"    # what was not used for so long goes
//! min-free = "5%"          # of the disk, or a size; "0" for nothing
//! ```
//!
//! The user's own file comes before the project's, key by key: the store is the user's.

use std::path::Path;
use std::time::Duration;

use kiln_store::gc::{CachePolicy, FreeSpace};
use toml::{Table, Value};

use crate::config::Config;
use crate::failure::Failure;

/// Free where nothing else is said.
const MIN_FREE: FreeSpace = FreeSpace::Percent(5);
/// Where nothing is said, as a file would say it.
const DEFAULTS: [(&str, &str); 1] = [("cache.min-free", "\"5%\"")];
/// What a file has.
const TABLES: [&str; 3] = ["budget", "cache", "registry"];
const CACHE_KEYS: [&str; 3] = ["keep-storage", "keep-duration", "min-free"];

/// When the store makes room by itself.
///
/// # Errors
/// A file that cannot be read, is not TOML, or says something else of `[cache]`.
pub(crate) fn cache_policy(config: &Config) -> Result<CachePolicy, Failure> {
    let mut policy = CachePolicy::default();
    let files = [config.user_settings(), Some(config.project_settings())];
    for path in files.into_iter().flatten() {
        let Some(table) = table(&path, "cache")? else { continue };
        let wrong = |reason: String| wrong(&path, &reason);
        for (key, value) in &table {
            match key.as_str() {
                "keep-storage" => {
                    let bytes = size(value).map_err(wrong)?;
                    policy.max_bytes = policy.max_bytes.or(Some(bytes));
                }
                "keep-duration" => {
                    let age = duration(value).map_err(wrong)?;
                    policy.older_than = policy.older_than.or(Some(age));
                }
                "min-free" => {
                    let free = free_space(value).map_err(wrong)?;
                    policy.min_free = policy.min_free.or(Some(free));
                }
                _ => {
                    let known = CACHE_KEYS.join(", ");
                    return Err(wrong(format!("[cache] has no `{key}`; its keys are {known}")));
                }
            }
        }
    }
    policy.min_free = policy.min_free.or(Some(MIN_FREE));
    Ok(policy)
}

/// A setting as it stands in a file, an environment variable, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name, the tables that it is in first: `cache.keep-storage`.
    pub(crate) key: String,
    /// What it is, as TOML writes it.
    pub(crate) value: String,
    /// The file or the variable that says so; `None` is kiln's own choice.
    pub(crate) from: Option<String>,
}

/// What the files of settings say in effect, checked, with what holds where they say nothing.
///
/// # Errors
/// A file that cannot be read, is not TOML, or says what kiln does not know.
pub(crate) fn effective(config: &Config) -> Result<Vec<Setting>, Failure> {
    cache_policy(config)?;
    let mut settings: Vec<Setting> = Vec::new();
    let files = [config.user_settings(), Some(config.project_settings())];
    for path in files.into_iter().flatten() {
        let Some(file) = read(&path)? else { continue };
        if let Some(unknown) = file.keys().find(|name| !TABLES.contains(&name.as_str())) {
            let known = TABLES.join(", ");
            return Err(wrong(&path, &format!("there is no table `{unknown}`; there are {known}")));
        }
        for (name, value) in &file {
            flatten(name, value, &mut |key, value| {
                // Mirrors of both files are asked; of all else the first says it.
                let is_said = settings.iter().any(|setting| setting.key == key);
                if !is_said || key.starts_with("registry.") {
                    let from = Some(path.display().to_string());
                    settings.push(Setting { key, value: value.to_string(), from });
                }
            });
        }
    }
    for (key, value) in DEFAULTS {
        if !settings.iter().any(|setting| setting.key == key) {
            let (key, value) = (key.to_owned(), value.to_owned());
            settings.push(Setting { key, value, from: None });
        }
    }
    settings.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(settings)
}

/// Hands out all values that are no tables, with their dotted names.
fn flatten(name: &str, value: &Value, each: &mut impl FnMut(String, &Value)) {
    let Value::Table(table) = value else {
        return each(name.to_owned(), value);
    };
    for (key, value) in table {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let key = if key.chars().all(is_bare) { key.clone() } else { format!("\"{key}\"") };
        flatten(&format!("{name}.{key}"), value, each);
    }
}

/// A table of a file; `None` if there is no file, or none in it.
fn table(path: &Path, name: &str) -> Result<Option<Table>, Failure> {
    match read(path)?.and_then(|mut file| file.remove(name)) {
        None => Ok(None),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(_) => Err(wrong(path, &format!("`{name}` is no table"))),
    }
}

/// A file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Table>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file("read", path, error)),
    };
    let file = text.parse();
    file.map(Some).map_err(|error: toml::de::Error| wrong(path, error.to_string().trim_end()))
}

fn wrong(path: &Path, reason: &str) -> Failure {
    Failure::input("invalid-settings", format!("{}: {reason}", path.display()))
}

fn size(value: &Value) -> Result<u64, String> {
    match value {
        Value::Integer(bytes) => u64::try_from(*bytes).map_err(|_| "a size is below 0".to_owned()),
        Value::String(text) => parse_size(text),
        _ => Err(format!("{value} is no size")),
    }
}

fn duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => parse_duration(text),
        _ => Err(format!("{value} is no time; write \"30d\"")),
    }
}

fn free_space(value: &Value) -> Result<FreeSpace, String> {
    if let Value::String(text) = value
        && let Some(percent) = text.strip_suffix('%')
    {
        let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100);
        return percent
            .map(FreeSpace::Percent)
            .ok_or_else(|| format!("`{text}` is no part of a disk"));
    }
    size(value).map(FreeSpace::Bytes)
}

#[expect(clippy::cast_precision_loss, reason = "nobody means the last byte of terabytes")]
/// A size in bytes: `20GB` (decimal units, as kiln shows sizes), `20GiB`, `500000`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 14] = [
        ("", 1),
        ("b", 1),
        ("k", 1_000),
        ("kb", 1_000),
        ("m", 1_000_000),
        ("mb", 1_000_000),
        ("g", 1_000_000_000),
        ("gb", 1_000_000_000),
        ("t", 1_000_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let wrong = || format!("`{text}` is no size; write for example 20GB or 512MiB");
    let (number, unit) = split_number(text);
    let unit = unit.to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * *factor as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A time as Go writes them, with days and weeks: `30d`, `1h30m`, `1.5s`, `200ms`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];
    let wrong = || format!("`{text}` is no time; write for example 30d, 12h or 90s");
    let (mut rest, mut seconds) = (text.trim(), 0.0);
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number * factor;
        rest = next;
    }
    if text.trim().is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A number and what follows it.
fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Editors check files by the schema: it knows what kiln knows.
    #[test]
    fn the_schema_has_all_keys() {
        let schema = include_str!("../../../docs/kiln.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let keys = |of: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<_> = of["properties"].as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |keys: &[&str]| {
            let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&schema), sorted(&TABLES));
        assert_eq!(keys(&schema["properties"]["cache"]), sorted(&CACHE_KEYS));
        let registry = &schema["properties"]["registry"]["additionalProperties"];
        assert_eq!(keys(registry), sorted(&["mirrors", "http", "insecure", "ca", "keypair"]));
        let min_free = &schema["properties"]["cache"]["properties"]["min-free"]["default"];
        assert_eq!(min_free.to_string(), DEFAULTS[0].1);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("500000", 500_000),
            ("20GB", 20_000_000_000),
            ("20 gb", 20_000_000_000),
            ("1.5M", 1_500_000),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1 parsec", "1.2.3", "99999999999999TB"] {
            parse_size(text).unwrap_err();
        }
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("30d", 30 * 86_400_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("200ms", 200),
            ("2w", 14 * 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "h", "1y", "1h 5", "-3h"] {
            parse_duration(text).unwrap_err();
        }
    }

    #[test]
    fn the_users_file_comes_before_the_projects_key_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let (user, project) = (directory.path().join("user"), directory.path().join("project"));
        std::fs::create_dir_all(user.join("kiln")).unwrap();
        std::fs::create_dir(&project).unwrap();
        let mut config = Config { working_directory: project.clone(), ..Config::default() };
        let path = user.display().to_string();
        config.variables.insert("XDG_CONFIG_HOME".to_owned(), path);
        let default = CachePolicy { min_free: Some(MIN_FREE), ..CachePolicy::default() };
        assert_eq!(cache_policy(&config).unwrap(), default);
        let own = "[cache]\nkeep-storage = \"5GB\"\nmin-free = \"10%\"\n[registry.\"x\"]\n";
        std::fs::write(user.join("kiln/kiln.toml"), own).unwrap();
        let text = "[cache]\nkeep-storage = \"20GB\"\nkeep-duration = \"30d\"\n";
        std::fs::write(project.join("kiln.toml"), text).unwrap();
        let policy = CachePolicy {
            max_bytes: Some(5_000_000_000),
            older_than: Some(Duration::from_hours(720)),
            min_free: Some(FreeSpace::Percent(10)),
        };
        assert_eq!(cache_policy(&config).unwrap(), policy);

        for (text, reason) in [
            ("[cache]\nkeep = 1", "[cache] has no `keep`; its keys are keep-storage"),
            ("[cache]\nkeep-storage = true", "true is no size"),
            ("[cache]\nkeep-duration = 5", "5 is no time"),
            ("[cache]\nmin-free = \"200%\"", "`200%` is no part of a disk"),
            ("cache = 5", "`cache` is no table"),
            ("[cache", "TOML parse error"),
        ] {
            std::fs::write(project.join("kiln.toml"), text).unwrap();
            let error = cache_policy(&config).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("project/kiln.toml"), "{error}");
        }
    }
}

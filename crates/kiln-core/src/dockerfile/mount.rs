//! `RUN --mount=…`: a line of CSV whose fields are `key=value` or a bare key.
//!
//! Fields are cut before expansion, values are expanded one by one: a comma in a variable does not
//! make a field. Options are read in order; `required` and `size` need `type=` before them.
//!
//! Source: the Dockerfile reference, "RUN --mount".

use super::value::{ValueError, parse_bool, parse_size};
use crate::diagnostic::did_you_mean;

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`, the default.
    #[default]
    Bind,
    /// `type=cache`
    Cache,
    /// `type=tmpfs`
    Tmpfs,
    /// `type=secret`
    Secret,
    /// `type=ssh`
    Ssh,
}

impl MountKind {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// As `type=` writes it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Who may use a cache mount at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Many steps at once.
    Shared,
    /// A new one is made while another step uses it.
    Private,
    /// Steps wait for each other.
    Locked,
}

impl Sharing {
    const ALL: [(&'static str, Self); 3] =
        [("shared", Self::Shared), ("private", Self::Private), ("locked", Self::Locked)];
}

/// A mount of one RUN, as written: what defaults to the working directory, to a target or to an
/// id is `None` here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type=`
    pub kind: MountKind,
    /// `from=`: a stage, a named context or an image. Only bind and cache have one.
    pub from: Option<String>,
    /// `source=` or `src=`
    pub source: Option<String>,
    /// `target=`, `dst=` or `destination=`; relative to the working directory.
    pub target: Option<String>,
    /// `id=`
    pub id: Option<String>,
    /// `sharing=`; cache only.
    pub sharing: Option<Sharing>,
    /// Whether it is read-only: as written, or else false for cache and tmpfs only.
    pub read_only: bool,
    /// `required`: secret and ssh only.
    pub required: bool,
    /// `size=` in bytes; tmpfs only.
    pub size_bytes: Option<u64>,
    /// `mode=`: permission bits; not for bind and tmpfs.
    pub mode: Option<u32>,
    /// `uid=`; not for bind and tmpfs.
    pub uid: Option<u32>,
    /// `gid=`; not for bind and tmpfs.
    pub gid: Option<u32>,
    /// `env=`: the variable that holds a secret; empty means the default name.
    pub env: Option<String>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Parses a mount whose value holds no variables (any more).
pub fn parse_mount(expanded: &str) -> Result<Mount, ValueError> {
    parse_mount_with(expanded, &mut |value| Ok(value.to_owned()))
}

/// Parses a mount as written; `expand` makes a value of a raw value.
pub fn parse_mount_with(
    raw: &str,
    expand: &mut dyn FnMut(&str) -> Result<String, ValueError>,
) -> Result<Mount, ValueError> {
    let mut mount = Mount::default();
    let mut written_access = None;
    for field in csv_fields(raw)? {
        match field.split_once('=') {
            Some((key, value)) => {
                let option =
                    Setting { key: key.to_lowercase(), value: expand(value)?, field: &field };
                option.apply(&mut mount, &mut written_access)?;
            }
            None => set_bare(&field, &mut mount, &mut written_access)?,
        }
    }
    let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
    mount.read_only = written_access.unwrap_or(!writable);
    check(&mount)?;
    Ok(mount)
}

/// What can be told about a raw value before expansion: whether it is CSV, and that `from` has
/// no variable.
pub(super) fn check_raw(raw: &str) -> Result<(), ValueError> {
    for field in csv_fields(raw)? {
        let Some((key, value)) = field.split_once('=') else {
            continue;
        };
        // A dollar at the very end is no variable.
        let dollar = value.find('$').is_some_and(|at| at + 1 < value.len());
        if key.eq_ignore_ascii_case("from") && dollar {
            return Err(ValueError {
                message: "'from' doesn't support variable expansion, define alias stage instead"
                    .to_owned(),
                help: Some("FROM may hold a variable: name that stage here".to_owned()),
            });
        }
    }
    Ok(())
}

fn set_bare(field: &str, mount: &mut Mount, access: &mut Option<bool>) -> Result<(), ValueError> {
    let key = field.to_lowercase();
    match key.as_str() {
        "readonly" | "ro" => *access = Some(true),
        "readwrite" | "rw" => *access = Some(false),
        "required" => {
            expect_kind(&key, mount.kind, &[MountKind::Secret, MountKind::Ssh])?;
            mount.required = true;
        }
        _ => {
            let error = format!("invalid field '{field}' must be a key=value pair");
            return Err(ValueError::new(error).suggest(did_you_mean(&key, KEYS)));
        }
    }
    Ok(())
}

/// One `key=value` with the value expanded.
struct Setting<'a> {
    key: String,
    value: String,
    field: &'a str,
}

impl Setting<'_> {
    fn apply(self, mount: &mut Mount, access: &mut Option<bool>) -> Result<(), ValueError> {
        match self.key.as_str() {
            "type" => mount.kind = self.one_of(&MountKind::ALL, "mount type")?,
            "from" => mount.from = self.text(),
            "source" | "src" => mount.source = self.text(),
            "target" | "dst" | "destination" => mount.target = self.text(),
            "readonly" | "ro" => *access = Some(self.truth()?),
            "readwrite" | "rw" => *access = Some(!self.truth()?),
            "required" => {
                let kinds = [MountKind::Secret, MountKind::Ssh];
                expect_kind(&self.key, mount.kind, &kinds)?;
                mount.required = self.truth()?;
            }
            "size" => {
                expect_kind(&self.key, mount.kind, &[MountKind::Tmpfs])?;
                mount.size_bytes = Some(parse_size(&self.value).map_err(|_| self.invalid())?);
            }
            "id" => mount.id = self.text(),
            "sharing" => mount.sharing = Some(self.one_of(&Sharing::ALL, "sharing value")?),
            "mode" => mount.mode = Some(self.number(8)?),
            "uid" => mount.uid = Some(self.number(10)?),
            "gid" => mount.gid = Some(self.number(10)?),
            "env" => mount.env = Some(self.value),
            key => {
                let error = format!("unexpected key '{key}' in '{}'", self.field);
                return Err(ValueError::new(error).suggest(did_you_mean(key, KEYS)));
            }
        }
        Ok(())
    }

    /// The value; an empty one counts as not written.
    fn text(self) -> Option<String> {
        Some(self.value).filter(|value| !value.is_empty())
    }

    fn invalid(&self) -> ValueError {
        ValueError::new(format!("invalid value for {}: {}", self.key, self.value))
    }

    fn truth(&self) -> Result<bool, ValueError> {
        parse_bool(&self.value).ok_or_else(|| self.invalid())
    }

    fn number(&self, radix: u32) -> Result<u32, ValueError> {
        let digits = self.value.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(&self.value, radix).ok().filter(|_| digits).ok_or_else(|| {
            ValueError::new(format!("invalid value {} for {}", self.value, self.key))
        })
    }

    fn one_of<T: Copy>(&self, known: &[(&str, T)], what: &str) -> Result<T, ValueError> {
        let lower = self.value.to_lowercase();
        let found = known.iter().find(|(name, _)| *name == lower);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let mut error = ValueError::new(format!(
                "unsupported {what} \"{}\": expected {}",
                self.value,
                names.join(", ")
            ));
            error = error.suggest(did_you_mean(&lower, names));
            error
        })
    }
}

fn expect_kind(key: &str, kind: MountKind, allowed: &[MountKind]) -> Result<(), ValueError> {
    if allowed.contains(&kind) {
        return Ok(());
    }
    let mut error =
        ValueError::new(format!("unexpected key '{key}' for mount type '{}'", kind.name()));
    if kind == MountKind::Bind {
        let names: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
        let names = names.join(" or type=");
        error.help = Some(format!("`{key}` needs type={names} written before it"));
    }
    Err(error)
}

/// What options do not go together.
fn check(mount: &Mount) -> Result<(), ValueError> {
    let kind = mount.kind.name();
    let error = |message: String| Err(ValueError::new(message));
    if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
        let owner = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
        if let Some((key, _)) = owner.iter().find(|(_, value)| value.is_some()) {
            return error(format!("{key} not allowed for \"{kind}\" type mounts"));
        }
    }
    if mount.kind == MountKind::Secret {
        if mount.from.is_some() {
            return error("secret mount should not have a from".to_owned());
        }
        if mount.sharing.is_some() {
            return error("secret mount should not define sharing".to_owned());
        }
        if mount.source.is_none() && mount.target.is_none() && mount.id.is_none() {
            return error("invalid secret mount. one of source, target required".to_owned());
        }
        if mount.source.is_some() && mount.id.is_some() {
            return error("both source and id can't be set".to_owned());
        }
    }
    if mount.sharing.is_some() && mount.kind != MountKind::Cache {
        return error(format!("invalid cache sharing set for {kind} mount"));
    }
    Ok(())
}

/// The fields of one line of CSV: quoted fields begin with `"`, and `""` is a quote in them.
fn csv_fields(line: &str) -> Result<Vec<String>, ValueError> {
    let failed = |what: &str| Err(ValueError::new(format!("failed to parse csv mounts: {what}")));
    let mut rest = line.strip_suffix('\n').unwrap_or(line);
    rest = rest.strip_suffix('\r').unwrap_or(rest);
    if rest.is_empty() {
        return failed("the value is empty");
    }
    let mut fields = Vec::new();
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(f, a)| (f, Some(a)));
            if field.contains('"') {
                return failed("bare \" in non-quoted field");
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        rest = quoted;
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return failed("extraneous or missing \" in quoted field");
            };
            field.push_str(part);
            let Some(more) = after.strip_prefix('"') else {
                rest = after;
                break;
            };
            field.push('"');
            rest = more;
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return failed("extraneous or missing \" in quoted field"),
        }
    }
}

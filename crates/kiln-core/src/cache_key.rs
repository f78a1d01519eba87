//! The only place where cache keys are made.
//!
//! A key covers everything that can change what a step makes and nothing else: no span, no stage
//! name, no time of a file, no path of the host, no secret's value, no proxy. It is made of named
//! *parts*, which every cache record keeps, so that "why did this run?" has an answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, ContentId, FieldHasher};
use crate::git_source::{GitFetch, GitTimes};
use crate::plan::{
    Access, CopyFrom, CopyOp, ExecMount, ExecOp, FileOp, GitDir, GitSource, Link, ModeChange,
    MountKind, Network, Op, Parents, Security, SourceOp, Submodules, Unpack,
};

/// Version of the key format: a change makes every older key miss.
const FORMAT: &str = "kiln key 1";

/// Longest value that a part keeps as text; longer ones are kept as their hash.
const TEXT_LIMIT_BYTES: usize = 256;

/// One named ingredient of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What it is, in words that a message can use: `command`, `variable PATH`.
    pub name: String,
    /// Its value, or `blake3:<hex>` of a long one.
    pub value: String,
}

/// The ingredients of a key, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts(pub Vec<KeyPart>);

/// The content of something that a step works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputContent {
    /// What it is to the step, in words: `the file system so far`, `files of the build context`.
    pub role: String,
    /// What it holds; `None` is the empty file system.
    pub content: Option<ContentId>,
}

impl KeyParts {
    /// The key of these parts.
    pub fn key(&self) -> CacheKey {
        CacheKey::from_bytes(self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        let mut hasher = FieldHasher::new(FORMAT);
        for part in &self.0 {
            hasher.field(&part.name).field(&part.value);
        }
        hasher.finish()
    }

    fn push(&mut self, name: impl Into<String>, value: impl AsRef<str>) {
        let value = value.as_ref();
        let value = if value.len() > TEXT_LIMIT_BYTES || value.starts_with("blake3:") {
            format!("blake3:{}", blake3::hash(value.as_bytes()).to_hex())
        } else {
            value.to_owned()
        };
        self.0.push(KeyPart { name: name.into(), value });
    }

    /// What differs from an older set of parts, in words for a person: `variable A changed`,
    /// `build-arg B is new`. Each name is told once.
    pub fn differences(&self, older: &Self) -> Vec<String> {
        let (new, old) = (self.by_name(), older.by_name());
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for KeyPart { name, .. } in &self.0 {
            if !seen.insert(name) {
                continue;
            }
            match old.get(name.as_str()) {
                Some(values) if *values == new[name.as_str()] => {}
                Some(_) => found.push(format!("{name} changed")),
                None => found.push(format!("{name} is new")),
            }
        }
        for KeyPart { name, .. } in &older.0 {
            if !new.contains_key(name.as_str()) && seen.insert(name) {
                found.push(format!("{name} is gone"));
            }
        }
        found
    }

    /// The values of each name, in order: a command has several mounts, a copy several sources.
    fn by_name(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for part in &self.0 {
            values.entry(&part.name).or_default().push(&part.value);
        }
        values
    }
}

/// What a step does, apart from what it works on: equal for the same instruction before and
/// after an edit of its inputs.
pub fn recipe(op: &Op) -> [u8; 32] {
    op_parts(op).hash()
}

/// The parts of the key of a step: its operation and the content of its inputs, in order.
pub fn key_parts(op: &Op, inputs: &[InputContent]) -> KeyParts {
    let mut parts = op_parts(op);
    for input in inputs {
        let content = input.content.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        parts.push(&input.role, content);
    }
    parts
}

fn op_parts(op: &Op) -> KeyParts {
    let mut parts = KeyParts::default();
    match op {
        Op::Source(source) => source_parts(source, &mut parts),
        Op::Exec(exec) => exec_parts(exec, &mut parts),
        Op::File(FileOp::Copy(copy)) => copy_parts(copy, &mut parts),
        Op::File(FileOp::MakeDirectory { path, owner, epoch }) => {
            parts.push("operation", "make directory");
            parts.push("path", path);
            parts.push("owner", owner);
            push_epoch(&mut parts, *epoch);
        }
    }
    parts
}

fn source_parts(source: &SourceOp, parts: &mut KeyParts) {
    match source {
        SourceOp::Image { source: _, manifest: _, diff_ids } => {
            parts.push("operation", "image");
            let layers: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
            parts.push("layers", layers.join(" "));
        }
        SourceOp::Download { url, name, checksum } => {
            parts.push("operation", "download");
            parts.push("url", url);
            parts.push("name", name);
            parts.push("checksum", checksum.map_or_else(String::new, |digest| digest.to_string()));
        }
        SourceOp::Git(git) => git_parts(git, parts),
        SourceOp::Context { name } => {
            parts.push("operation", "context");
            parts.push("context", name.as_deref().map_or(String::new(), |name| format!("={name}")));
        }
    }
}

fn git_parts(git: &GitSource, parts: &mut KeyParts) {
    let GitSource { remote, reference, subdir, checksum, git_dir, submodules, times, fetch } = git;
    parts.push("operation", "git");
    parts.push("remote", remote);
    parts.push("reference", reference);
    parts.push("subdirectory", subdir);
    parts.push("checksum", checksum.as_ref().map_or_else(String::new, |text| format!("={text}")));
    parts.push("git directory", if *git_dir == GitDir::Keep { "keep" } else { "drop" });
    parts.push("submodules", if *submodules == Submodules::Skip { "skip" } else { "fetch" });
    parts.push("times", if *times == GitTimes::Commit { "commit" } else { "checkout" });
    parts.push("fetch", if *fetch == GitFetch::Commit { "commit" } else { "reference" });
}

fn exec_parts(exec: &ExecOp, parts: &mut KeyParts) {
    let ExecOp { args, env, arguments: _, proxy_env: _, cwd, user, mounts, scripts, .. } = exec;
    let ExecOp { network, extra_hosts, ulimits, security, platform, .. } = exec;
    parts.push("operation", "run");
    parts.push("command", framed(args));
    for (name, value) in env {
        parts.push(format!("variable {name}"), value);
    }
    parts.push("working directory", cwd);
    parts.push("user", user);
    parts.push("platform", platform);
    parts.push("network", if *network == Network::None { "none" } else { "host" });
    parts.push("security", if *security == Security::Insecure { "insecure" } else { "sandbox" });
    // As with BuildKit: a name may move to another address.
    for host in extra_hosts {
        parts.push("extra host", &host.name);
    }
    for limit in ulimits {
        let value = |value: Option<u64>| value.map_or(-1, i128::from);
        let text = format!("{}:{}", value(limit.soft), value(limit.hard));
        parts.push(format!("ulimit {}", limit.name), text);
    }
    for mount in mounts {
        parts.push("mount", mount_text(mount));
    }
    for script in scripts {
        parts.push(format!("script {}", script.name), &script.contents);
    }
}

/// A list as one text from which no other list comes.
fn framed<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        let item = item.as_ref();
        text.push_str(&format!("{}:{item},", item.len()));
    }
    text
}

fn mount_text(mount: &ExecMount) -> String {
    let access = |access: &Access| match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    let mut fields = match &mount.kind {
        MountKind::Bind { input, source, access: mode } => {
            vec!["bind".into(), input.to_string(), source.clone(), access(mode).into()]
        }
        MountKind::Cache { id, source, sharing, seed, mode, uid, gid, access: may } => {
            let (input, path) = seed
                .as_ref()
                .map_or((String::new(), ""), |(input, path)| (input.to_string(), path.as_str()));
            let attributes = format!("{sharing} {mode:o} {uid}:{gid} {}", access(may));
            let mut fields = vec!["cache".into(), id.clone(), input, path.into(), attributes];
            if source != "/" {
                fields.push(source.clone());
            }
            fields
        }
        MountKind::Tmpfs { size_bytes, access: may } => {
            let size = format!("{size_bytes:?}");
            match may {
                Access::ReadWrite => vec!["tmpfs".into(), size],
                Access::ReadOnly => vec!["tmpfs".into(), size, "ro".into()],
            }
        }
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            let attributes = format!("{required} {mode:o} {uid}:{gid}");
            vec!["secret".into(), id.clone(), format!("{env:?}"), attributes]
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            vec!["ssh".into(), id.clone(), format!("{required} {mode:o} {uid}:{gid}")]
        }
    };
    fields.push(format!("{:?}", mount.target));
    framed(&fields)
}

fn copy_parts(copy: &CopyOp, parts: &mut KeyParts) {
    let CopyOp { sources, destination, owner, mode, excludes, parents, link, unpack, epoch } = copy;
    parts.push("operation", "copy");
    for source in sources {
        match source {
            CopyFrom::Input { input, path } => parts.push("source", format!("{input} {path}")),
            CopyFrom::Inline { name, contents } => parts.push(format!("file {name}"), contents),
        }
    }
    parts.push("destination", destination);
    parts.push("owner", owner.as_ref().map_or(String::new(), |owner| format!("={owner}")));
    let mode = match mode {
        None => String::new(),
        Some(ModeChange::Absolute(bits)) => format!("={bits:o}"),
        Some(ModeChange::Symbolic(text)) => format!("+{text}"),
    };
    parts.push("mode", mode);
    parts.push("excludes", framed(excludes));
    parts.push("parents", if *parents == Parents::Keep { "keep" } else { "drop" });
    parts.push("link", if *link == Link::Yes { "yes" } else { "no" });
    parts.push("unpack", if *unpack == Unpack::Yes { "yes" } else { "no" });
    push_epoch(parts, *epoch);
}

fn push_epoch(parts: &mut KeyParts, epoch: Option<i64>) {
    if let Some(epoch) = epoch {
        parts.push("SOURCE_DATE_EPOCH", epoch.to_string());
    }
}

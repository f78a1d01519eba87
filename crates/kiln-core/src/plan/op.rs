//! Steps and what they do: a small closed set of operations.
//!
//! A step says *what* is made from its inputs, and nothing about where it stands in a file: two
//! stages, targets or platforms that need the same are one step.

use std::fmt;

use super::request::{ExtraHost, ImageSource, Network, Ulimit};
use crate::digest::{BlobDigest, DiffId, FieldHasher, StepId};
use crate::git_source::{GitAddress, GitFetch, GitTimes};
use crate::source::Span;

/// One operation with its inputs.
#[derive(Clone, Debug)]
pub struct Step {
    /// Recipe identity: the operation and the ids of its inputs.
    pub id: StepId,
    /// What is done.
    pub op: Op,
    /// What it works on; for [`Op::Exec`] and [`Op::File`] the first is the root file system.
    pub inputs: Vec<Input>,
    /// The instruction that asked for it first.
    pub span: Span,
    /// As progress shows it: `[app 2/5] RUN uv sync`.
    pub name: String,
}

/// An input of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// The empty file system.
    Scratch,
    /// The result of a step.
    Step(StepId),
}

/// Index into the inputs of a step.
pub type InputIndex = usize;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Brings something in from outside.
    Source(SourceOp),
    /// Runs a command.
    Exec(ExecOp),
    /// Changes files without running anything.
    File(FileOp),
}

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOp {
    /// The file system of an image.
    Image {
        /// Where to fetch it; not part of what it is.
        source: ImageSource,
        /// Its manifest.
        manifest: BlobDigest,
        /// Its layers, lowest first.
        diff_ids: Vec<DiffId>,
    },
    /// A file of the web, as the only file of a file system.
    Download {
        /// Its HTTP(S) address.
        url: String,
        /// What it is called.
        name: String,
        /// `--checksum`: what it must be.
        checksum: Option<BlobDigest>,
    },
    /// The files of a commit of a git repository.
    Git(GitSource),
    /// A directory of files of the user's: `None` is the build context, else a named context.
    Context {
        /// Normalised name.
        name: Option<String>,
    },
}

/// What is taken of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitSource {
    /// Where it is, as git is told.
    pub remote: String,
    /// Branch, tag, `refs/…` or commit; empty is the default branch.
    pub reference: String,
    /// Which of its directories; empty is all of it.
    pub subdir: String,
    /// First digits of the commit (or tag) that it must be.
    pub checksum: Option<String>,
    /// Whether `.git` comes along. It does not with a `subdir`.
    pub git_dir: GitDir,
    /// Whether submodules come along.
    pub submodules: Submodules,
    /// Modification times of the files.
    pub times: GitTimes,
    /// How the commit is asked for.
    pub fetch: GitFetch,
}

/// Whether `.git` is part of a checkout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitDir {
    /// Files alone.
    #[default]
    Drop,
    /// `--keep-git-dir`
    Keep,
}

/// Whether submodules are part of a checkout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submodules {
    /// All of them, and theirs.
    #[default]
    Fetch,
    /// Their directories stay empty.
    Skip,
}

impl From<GitAddress> for GitSource {
    fn from(address: GitAddress) -> Self {
        let GitAddress { remote, reference, subdir, checksum, times, fetch, .. } = address;
        let git_dir = if address.keep_git_dir == Some(true) { GitDir::Keep } else { GitDir::Drop };
        let submodules = match address.submodules {
            Some(false) => Submodules::Skip,
            _ => Submodules::Fetch,
        };
        Self { remote, reference, subdir, checksum, git_dir, submodules, times, fetch }
    }
}

/// A command and all that it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOp {
    /// The command's words.
    pub args: Vec<String>,
    /// Environment in order.
    pub env: Vec<(String, String)>,
    /// Variables of the environment that are build arguments and not the image's; not part of the
    /// key, which has them with the others.
    pub arguments: Vec<String>,
    /// Proxy variables: seen by the command, not part of the key.
    pub proxy_env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// `USER` as written and expanded; empty is root.
    pub user: String,
    /// Mounts in order of the flags.
    pub mounts: Vec<ExecMount>,
    /// Inline scripts, shown as `/dev/pipes/NAME`.
    pub scripts: Vec<Script>,
    /// Network.
    pub network: Network,
    /// Lines added to `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Limits of the kernel's.
    pub ulimits: Vec<Ulimit>,
    /// Sandboxed or not.
    pub security: Security,
    /// `os/arch[/variant]` of the root file system.
    pub platform: String,
}

/// A heredoc with a `#!` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// File name.
    pub name: String,
    /// Content.
    pub contents: String,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Namespaces, seccomp, few capabilities.
    #[default]
    Sandbox,
    /// All capabilities, no masks.
    Insecure,
}

/// `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecMount {
    /// Absolute path in the root file system; secrets given only as environment have none.
    pub target: Option<String>,
    /// What is mounted.
    pub kind: MountKind,
}

/// Kinds of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of another step or a context.
    Bind {
        /// Whose files.
        input: InputIndex,
        /// Absolute path in it.
        source: String,
        /// Writes are allowed, and thrown away.
        access: Access,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its identity. One with attributes of its own is another one than that without.
        id: String,
        /// Absolute path in it that is mounted.
        source: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// What a new one starts with.
        seed: Option<(InputIndex, String)>,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
        /// Whether the command may write.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Limit.
        size_bytes: Option<u64>,
        /// Whether the command may write.
        access: Access,
    },
    /// A secret, as a file or a variable; its value is never part of anything that is kept.
    Secret {
        /// Its id.
        id: String,
        /// Variable that holds it.
        env: Option<String>,
        /// The build fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// The SSH agent's socket.
    Ssh {
        /// Its id.
        id: String,
        /// The build fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Whether a mount may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No.
    ReadOnly,
    /// Yes.
    ReadWrite,
}

/// Sharing of a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Any number of users.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

/// A change of files. Every one makes one layer over the first input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// COPY and ADD.
    Copy(CopyOp),
    /// WORKDIR.
    MakeDirectory {
        /// Absolute path.
        path: String,
        /// `USER` that owns what is made.
        owner: String,
        /// `SOURCE_DATE_EPOCH`: modification time of what is made.
        epoch: Option<i64>,
    },
}

/// COPY and ADD of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOp {
    /// Sources in order.
    pub sources: Vec<CopyFrom>,
    /// Absolute; ends with a slash if it was written as a directory.
    pub destination: String,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--parents`.
    pub parents: Parents,
    /// `--link`: the layer does not depend on what it is laid over.
    pub link: Link,
    /// ADD: archives are unpacked.
    pub unpack: Unpack,
    /// `SOURCE_DATE_EPOCH`: modification time of inline files and of directories made.
    pub epoch: Option<i64>,
}

impl CopyOp {
    /// A copy into the root directory that changes nothing on the way.
    pub fn plain(sources: Vec<CopyFrom>) -> Self {
        Self {
            sources,
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            excludes: Vec::new(),
            parents: Parents::Drop,
            link: Link::No,
            unpack: Unpack::No,
            epoch: None,
        }
    }
}

/// Whether a copy is independent of its destination's file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Merged into what is there.
    #[default]
    No,
    /// An independent layer: made over nothing, then laid over the first input.
    Yes,
}

/// Whether source paths are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parents {
    /// Only the base name is.
    #[default]
    Drop,
    /// The directories above are made too; a path `/a/./b` keeps only what is after the dot.
    Keep,
}

/// Whether archives are unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpack {
    /// COPY.
    #[default]
    No,
    /// ADD.
    Yes,
}

/// A source of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// Paths of another step or a context.
    Input {
        /// Whose files.
        input: InputIndex,
        /// Absolute path, perhaps with wildcards.
        path: String,
    },
    /// A heredoc.
    Inline {
        /// File name.
        name: String,
        /// Content.
        contents: String,
    },
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// Octal.
    Absolute(u32),
    /// `u+x,go=r`, applied to each file's own mode.
    Symbolic(String),
}

impl Step {
    /// A step; its id is computed from the operation and the inputs.
    pub fn new(op: Op, inputs: Vec<Input>, span: Span, name: String) -> Self {
        let mut hasher = FieldHasher::new("kiln step 1");
        hasher.field(crate::cache_key::recipe(&op));
        hasher.list(inputs.iter().map(|input| match input {
            Input::Scratch => Vec::new(),
            Input::Step(id) => id.as_bytes().to_vec(),
        }));
        Self { id: StepId::from_bytes(hasher.finish()), op, inputs, span, name }
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        })
    }
}

//! The table of rules.

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One of BuildKit's, with its name and meaning.
    BuildKit,
    /// kiln's own: what costs time in builds. It never ends a build.
    Cache,
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `skip=` takes it.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub description: &'static str,
    /// What to do about a warning, in one line.
    pub fix: &'static str,
    /// Whose it is.
    pub family: Family,
    /// Off unless `experimental=` names it.
    pub experimental: bool,
}

impl Rule {
    /// Where it is described, in kiln's repository.
    pub fn page(&self) -> String {
        format!("docs/rules/{}.md", self.name)
    }
}

const fn buildkit(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule { name, description, fix, family: Family::BuildKit, experimental: false }
}

const fn cache(name: &'static str, description: &'static str, fix: &'static str) -> Rule {
    Rule { name, description, fix, family: Family::Cache, experimental: false }
}

/// The rule called `name`.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// All rules.
pub static RULES: [Rule; 29] = [
    buildkit(
        "StageNameCasing",
        "Stage names should be lowercase",
        "write the stage's name in lower case, here and where it is used",
    ),
    buildkit(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        "write `FROM … AS …` or `from … as …`",
    ),
    buildkit(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        "delete the empty line, or make it a comment",
    ),
    buildkit(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        "write it like the other instructions",
    ),
    buildkit(
        "DuplicateStageName",
        "Stage names should be unique",
        "give the stage a name of its own",
    ),
    buildkit(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        "choose another name than `scratch` and `context`",
    ),
    buildkit(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        "write the command as a JSON array, or choose a shell with SHELL",
    ),
    buildkit(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        "write `LABEL org.opencontainers.image.authors=…`",
    ),
    buildkit(
        "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        "declare it with ARG before the first FROM",
    ),
    buildkit(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
        "begin the path with `/`",
    ),
    buildkit(
        "UndefinedVar",
        "Variables should be defined before their use",
        "define it with ARG or ENV before this line",
    ),
    buildkit(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        "delete this one: only the last counts",
    ),
    buildkit(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        "write `key=value`, with quotes around a value that has blanks",
    ),
    buildkit(
        "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
        "use an image that exists for the platform, or build for the image's with `--platform`",
    ),
    buildkit(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        "leave `--platform` out",
    ),
    buildkit(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        "hand the secret to the RUN that needs it with `--mount=type=secret`",
    ),
    buildkit(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        "give the ARG a default that makes a valid image name",
    ),
    buildkit(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        "leave the platform to `--platform` of the build, or use $BUILDPLATFORM",
    ),
    buildkit(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        "take the file out of .dockerignore, or do not copy it",
    ),
    Rule {
        experimental: true,
        ..buildkit(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
            "begin the comment with the name, or put an empty comment line below it",
        )
    },
    buildkit(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        "write the protocol in lower case",
    ),
    buildkit(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
        "write the container's port only; ports are published when a container is started",
    ),
    cache(
        "SourceCopiedBeforeDependencies",
        "Dependencies should be installed before the source is copied",
        "copy only the lists and locks first (or mount them with `--mount=type=bind`), install, then copy the rest",
    ),
    cache(
        "CacheMountNotToolCache",
        "A cache mount should be where the tool keeps its cache",
        "mount the directory that the tool uses, or point the tool at the mount",
    ),
    cache(
        "CacheMountStayedEmpty",
        "A cache mount should hold something after a build",
        "find out where the tool keeps its cache, and mount that; or take the mount out",
    ),
    cache(
        "AptUpdateAlone",
        "apt-get update should be in the same RUN as the install",
        "write `apt-get update && apt-get install …` in one RUN",
    ),
    cache(
        "UnpinnedBase",
        "Base images should have a tag or a digest",
        "name a version, such as `python:3.12-slim`, or a digest",
    ),
    Rule {
        experimental: true,
        ..cache(
            "BaseWithoutDigest",
            "Base images should be pinned by their digest",
            "add the digest to the tag, as `python:3.12-slim@sha256:…`",
        )
    },
    cache(
        "CopyWholeRoot",
        "COPY --from should name what is needed, not the whole root",
        "copy the directories that the stage needs",
    ),
];

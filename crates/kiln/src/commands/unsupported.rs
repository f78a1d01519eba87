//! Flags of docker's `build` and `run` that kiln does not have: refused, with the reason or the way
//! that there is instead.

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

const NO_LIMITS: &str = "kiln makes no control groups; start kiln itself in one that has limits";

/// Flags and what to say about each.
const FLAGS: [(&str, &str); 26] = [
    ("--attest", "kiln makes no attestations yet"),
    ("--provenance", "kiln makes no attestations yet"),
    ("--sbom", "kiln makes no attestations yet"),
    ("--add-host", "a container sees the host's own names"),
    ("--builder", "there is no daemon to choose"),
    ("--cgroup-parent", "kiln runs no daemon; start kiln itself in the control group"),
    ("--ulimit", "a container has the limits of kiln itself; set them with `ulimit` before"),
    ("--shm-size", "the size of /dev/shm cannot be chosen"),
    ("--squash", "layers are kept as they are built"),
    ("--compress", "`-o type=oci,compression=gzip` chooses the compression"),
    ("--detach", "kiln has no daemon; run it in the background with `&`"),
    ("-d", "kiln has no daemon; run it in the background with `&`"),
    ("--publish", "the container has the host's network: its ports are open there already"),
    ("-p", "the container has the host's network: its ports are open there already"),
    ("--name", "containers have no names; they end with their command"),
    ("--mount", "`-v HOST:CONTAINER[:ro]` shows a directory of the host"),
    ("--memory", NO_LIMITS),
    ("-m", NO_LIMITS),
    ("--cpus", NO_LIMITS),
    ("--cpu-shares", NO_LIMITS),
    ("--cpuset-cpus", NO_LIMITS),
    ("--security-opt", "there is one sandbox; `--allow security.insecure` lets a RUN do more"),
    ("--isolation", "there is one sandbox"),
    ("--force-rm", "nothing of a build is left behind"),
    ("-D", "causes and logs are in every build's progress; `--progress=plain` keeps them"),
    ("--debug", "causes and logs are in every build's progress; `--progress=plain` keeps them"),
];

/// The error with what is known about the flag that it refuses.
pub(super) fn explain(mut error: Error, command: &Command) -> Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let name = flag.split('=').next().unwrap_or(flag);
    let known = FLAGS.iter().find(|(known, _)| *known == name);
    let Some((name, reason)) = known else {
        return error;
    };
    if error.kind() == ErrorKind::UnknownArgument {
        let mut explained = Error::new(ErrorKind::UnknownArgument).with_cmd(command);
        explained.insert(ContextKind::InvalidArg, ContextValue::String((*name).to_owned()));
        let tip = vec![(*reason).to_owned().into()];
        explained.insert(ContextKind::Suggested, ContextValue::StyledStrs(tip));
        error = explained;
    }
    error
}

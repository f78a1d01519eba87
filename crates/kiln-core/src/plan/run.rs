//! RUN: from words to an [`ExecOp`].

use super::history::Layered;
use super::instructions::{Place, step_name};
use super::planner::{Planner, Stuck};
use super::scope::proxy_environment;
use super::stage::{StageState, clean_path};
use super::{
    Access, Entitlement, ExecMount, ExecOp, Input, MountKind, Network, Op, Script, Security,
    Sharing,
};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{
    CommandLine, Flag, Heredoc, Instruction, Mount, MountKind as Kind, Run,
    Sharing as MountSharing, ValueError, expand, is_heredoc_alone, parse_mount_with,
};

/// Applies RUN to a stage.
pub(super) fn apply(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    instruction: &Instruction,
    run: &Run,
    place: &Place,
) -> Result<(), Stuck> {
    let mut exec = ExecOp {
        args: Vec::new(),
        env: state.env.variables().to_vec(),
        arguments: arguments(state),
        proxy_env: proxy_environment(&planner.request.build_args),
        cwd: state.cwd(),
        user: state.image.config.user.clone(),
        mounts: Vec::new(),
        scripts: Vec::new(),
        network: planner.request.run.network,
        extra_hosts: planner.request.run.extra_hosts.clone(),
        ulimits: planner.request.run.ulimits.clone(),
        security: Security::Sandbox,
        platform: state.platform.to_string(),
    };
    let mut inputs = vec![state.root];
    for flag in &run.flags {
        apply_flag(planner, state, flag, (&mut exec, &mut inputs), place)?;
    }
    if let Some(bytes) = planner.request.run.shm_size_bytes {
        let kind = MountKind::Tmpfs { size_bytes: Some(bytes), access: Access::ReadWrite };
        exec.mounts.push(ExecMount { target: Some("/dev/shm".to_owned()), kind });
    }
    name_socket(&mut exec);
    exec.args = command(state, &run.command, &mut exec.scripts);
    if exec.args.is_empty() {
        let message = "RUN [] names no command: arguments are required";
        return planner.fail(Diagnostic::error("missing-argument", instruction.span, message));
    }
    let name = step_name(planner, state, instruction, place);
    let line = history_line(state, &exec.args);
    state.root = planner.add(Op::Exec(exec), inputs, instruction.span, name);
    state.record(&line, Layered::Marked);
    Ok(())
}

/// The words that are executed. One heredoc alone is the script itself (one with a `#!` line is a
/// file that the shell starts); otherwise the shell gets the line with its heredocs as written.
fn command(state: &StageState, command: &CommandLine, scripts: &mut Vec<Script>) -> Vec<String> {
    let (text, heredocs) = match command {
        CommandLine::Exec { args, .. } => return args.clone(),
        CommandLine::Shell { text, heredocs, .. } => (text, heredocs),
    };
    match heredocs.as_slice() {
        [] => state.with_shell(text),
        [only, ..] if is_heredoc_alone(text) => {
            if only.body.starts_with("#!") {
                scripts.push(Script { name: only.name.clone(), contents: only.body.clone() });
                return state.with_shell(&format!("/dev/pipes/{}", only.name));
            }
            state.with_shell(&only.body)
        }
        several => {
            let mut line = text.clone();
            for Heredoc { written, name, .. } in several {
                line.push_str(&format!("\n{written}{name}"));
            }
            state.with_shell(&line)
        }
    }
}

/// The variables that ARG defines, and ENV does not.
fn arguments(state: &StageState) -> Vec<String> {
    let variables = state.image.config.env.iter().flatten();
    let in_image: Vec<&str> =
        variables.map(|variable| variable.split('=').next().unwrap_or_default()).collect();
    let names = state.args.iter().map(|argument| argument.name.clone());
    names.filter(|name| !in_image.contains(&name.as_str())).collect()
}

fn history_line(state: &StageState, args: &[String]) -> String {
    let mut shown: Vec<(String, String)> = Vec::new();
    for arg in &state.args {
        let value = state.env.value(&arg.name).or_else(|| arg.value.clone()).unwrap_or_default();
        match shown.iter_mut().find(|(name, _)| *name == arg.name) {
            Some(known) => known.1 = value,
            None => shown.push((arg.name.clone(), value)),
        }
    }
    let mut words = vec!["RUN".to_owned()];
    if !shown.is_empty() {
        words.push(format!("|{}", shown.len()));
        words.extend(shown.into_iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}

fn apply_flag(
    planner: &mut Planner<'_>,
    state: &StageState,
    flag: &Flag,
    (exec, inputs): (&mut ExecOp, &mut Vec<Input>),
    place: &Place,
) -> Result<(), Stuck> {
    let value = match &flag.value {
        Some(word) => word.text.clone(),
        None => String::new(),
    };
    let refuse = |message: String| Diagnostic::error("invalid-flag", flag.span, message);
    match flag.name.as_str() {
        "mount" => {
            let mut mount = mount(planner, state, flag, inputs, place)?;
            if mount.target.is_none() && matches!(mount.kind, MountKind::Ssh { .. }) {
                mount.target = Some(ssh_socket(&exec.mounts));
            }
            exec.mounts.push(mount);
            Ok(())
        }
        "network" => {
            exec.network = match value.as_str() {
                "default" => planner.request.run.network,
                "none" => Network::None,
                "host" if planner.request.entitlements.contains(&Entitlement::NetworkHost) => {
                    Network::Host
                }
                "host" => {
                    let error = refuse("--network=host: network.host is not allowed".into());
                    return planner.fail(error.with_help("allow it with `--allow network.host`"));
                }
                other => {
                    let message =
                        format!("invalid network mode `{other}`: use default, none or host");
                    return planner.fail(refuse(message));
                }
            };
            Ok(())
        }
        "security" => {
            exec.security = match value.as_str() {
                "sandbox" => Security::Sandbox,
                "insecure"
                    if planner.request.entitlements.contains(&Entitlement::SecurityInsecure) =>
                {
                    Security::Insecure
                }
                "insecure" => {
                    let message = "--security=insecure: security.insecure is not allowed";
                    let error = refuse(message.to_owned());
                    return planner
                        .fail(error.with_help("allow it with `--allow security.insecure`"));
                }
                other => {
                    let message =
                        format!("security {other:?} is not valid: use sandbox or insecure");
                    return planner.fail(refuse(message));
                }
            };
            Ok(())
        }
        "device" => {
            planner.fail(refuse("--device is not supported: kiln gives RUN no devices".into()))
        }
        other => planner.fail(refuse(format!("unknown flag: --{other}"))),
    }
}

fn mount(
    planner: &mut Planner<'_>,
    state: &StageState,
    flag: &Flag,
    inputs: &mut Vec<Input>,
    place: &Place,
) -> Result<ExecMount, Stuck> {
    let raw = flag.value.as_ref().map_or("", |word| word.text.as_str());
    let escape = planner.dockerfile.directives.escape;
    let mut expand_value = |value: &str| {
        let expanded = expand(value, escape, &|name| state.env.value(name));
        expanded.map(|expansion| expansion.text).map_err(|error| ValueError::new(error.to_string()))
    };
    let parsed = match parse_mount_with(raw, &mut expand_value) {
        Ok(parsed) => parsed,
        Err(error) => {
            let mut diagnostic = Diagnostic::error("invalid-mount", flag.span, error.message);
            diagnostic.help = error.help;
            return planner.fail(diagnostic);
        }
    };
    // Without a target, files are mounted on the working directory; that may not be the root.
    let is_file_mount = matches!(parsed.kind, Kind::Bind | Kind::Cache | Kind::Tmpfs);
    let target = match &parsed.target {
        Some(target) => Some(clean_path(&state.cwd(), target)),
        None => is_file_mount.then(|| state.cwd()),
    };
    if target.as_deref() == Some("/") {
        let message = "invalid mount target \"/\": say where with target=";
        return planner.fail(Diagnostic::error("invalid-mount", flag.span, message));
    }
    if parsed.kind == Kind::Ssh && parsed.source.is_some() {
        let error = Diagnostic::error("invalid-mount", flag.span, "ssh does not support source");
        return planner.fail(error);
    }
    let source = clean_path("/", parsed.source.as_deref().unwrap_or(""));
    let from = match &parsed.from {
        Some(from) => Some(planner.mount_from(from, place.stage, flag.span)?),
        None if parsed.kind == Kind::Bind => Some(planner.context(None)),
        None => None,
    };
    let from = from.filter(|from| *from != Input::Scratch || parsed.kind == Kind::Bind);
    let from = from.filter(|_| !has_own_root(&parsed, &source));
    let input = from.map(|from| {
        inputs.push(from);
        inputs.len() - 1
    });
    let kind = kind(&parsed, target.as_deref(), (input, source));
    let target = match &kind {
        MountKind::Secret { id, env, .. } if target.is_none() && env.is_none() => {
            Some(format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(id)))
        }
        _ => target,
    };
    Ok(ExecMount { target, kind })
}

/// Tells the command where the first socket is, unless it knows better (BuildKit).
fn name_socket(exec: &mut ExecOp) {
    const NAME: &str = "SSH_AUTH_SOCK";
    let socket = exec.mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
    if let Some(target) = socket.and_then(|mount| mount.target.clone())
        && exec.env.iter().all(|(name, _)| name != NAME)
    {
        exec.env.push((NAME.to_owned(), target));
    }
}

/// Where the socket of an SSH mount without a target is, after other mounts of the same command.
fn ssh_socket(earlier: &[ExecMount]) -> String {
    let number = earlier.iter().filter(|it| matches!(it.kind, MountKind::Ssh { .. })).count();
    format!("/run/buildkit/ssh_agent.{number}")
}

fn kind(
    parsed: &Mount,
    target: Option<&str>,
    (from, source): (Option<usize>, String),
) -> MountKind {
    let access = if parsed.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let (uid, gid) = (parsed.uid.unwrap_or(0), parsed.gid.unwrap_or(0));
    match parsed.kind {
        Kind::Bind => {
            let input = from.expect("a bind mount always has files");
            MountKind::Bind { input, source, access }
        }
        Kind::Cache => MountKind::Cache {
            id: cache_identity(parsed, &source),
            sharing: match parsed.sharing {
                None | Some(MountSharing::Shared) => Sharing::Shared,
                Some(MountSharing::Private) => Sharing::Private,
                Some(MountSharing::Locked) => Sharing::Locked,
            },
            seed: from.map(|input| (input, source.clone())),
            // What it is filled with is that part already.
            source: if from.is_some() { "/".to_owned() } else { source },
            // As with BuildKit, a cache mount has neither set-id bits nor a sticky one.
            mode: parsed.mode.unwrap_or(0o755) & 0o777,
            uid,
            gid,
            access,
        },
        Kind::Tmpfs => MountKind::Tmpfs { size_bytes: parsed.size_bytes, access },
        Kind::Secret => MountKind::Secret {
            id: secret_id(parsed, target),
            env: parsed.env.clone(),
            required: parsed.required,
            mode: parsed.mode.unwrap_or(0o400),
            uid,
            gid,
        },
        Kind::Ssh => MountKind::Ssh {
            id: parsed.id.clone().unwrap_or_else(|| "default".to_owned()),
            required: parsed.required,
            mode: parsed.mode.unwrap_or(0o600),
            uid,
            gid,
        },
    }
}

/// Whether a cache begins as an empty directory of its own, whatever it is taken from (BuildKit).
fn has_own_root(parsed: &Mount, source: &str) -> bool {
    let written = [parsed.mode, parsed.uid, parsed.gid].iter().any(Option::is_some);
    parsed.kind == Kind::Cache && source == "/" && written
}

/// As with BuildKit, attributes that are written make another cache of the same id, unless only a
/// part of it is mounted: then they are not looked at.
fn cache_identity(parsed: &Mount, source: &str) -> String {
    let id = parsed.id.clone().unwrap_or_else(|| cache_id(parsed.target.as_deref()));
    if !has_own_root(parsed, source) {
        return id;
    }
    let (uid, gid) = (parsed.uid.unwrap_or(0), parsed.gid.unwrap_or(0));
    format!("{id} (mode={:o},uid={uid},gid={gid})", parsed.mode.unwrap_or(0o755) & 0o777)
}

/// A cache without an id is named by its target as written, cleaned: a relative one is the same
/// cache in all working directories.
pub(crate) fn cache_id(target: Option<&str>) -> String {
    let target = target.unwrap_or("");
    let clean = clean_path("/", target);
    match clean.strip_prefix('/') {
        _ if target.starts_with('/') => clean,
        None | Some("") => ".".to_owned(),
        Some(relative) => relative.to_owned(),
    }
}

/// A secret without an id is named like its source or the last part of its target.
fn secret_id(parsed: &Mount, target: Option<&str>) -> String {
    let named = parsed.id.clone().or_else(|| parsed.source.clone());
    named
        .or_else(|| target.map(|target| target.rsplit('/').next().unwrap_or(target).to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heredoc_alone_is_told_from_a_redirection() {
        for alone in ["<<EOF", " <<-EOF", "<<'EOF'", "3<<EOF", "<<\"E F\"", "<< EOF"] {
            assert!(is_heredoc_alone(alone), "{alone}");
        }
        for not in ["cat <<EOF", "<<EOF cat", "<<A <<B", "echo", "<<", "<<EOF || true"] {
            assert!(!is_heredoc_alone(not), "{not}");
        }
    }
}

//! `--allow`: what targets may reach of this machine beyond the directory that kiln is called in.
//!
//! As with buildx, files below the working directory are free; others, the host's network, commands
//! without confinement and the agent of SSH are asked for. `BUILDX_BAKE_ENTITLEMENTS_FS=0` lets all
//! files be free.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_core::bake::{Definition, Target};
use kiln_core::dockerfile::parse_bool;

use super::arguments::{contexts, is_remote, places};
use crate::config::Config;
use crate::failure::Failure;

/// What `--allow` allows.
#[derive(Debug, Default)]
struct Allowed {
    network_host: bool,
    insecure: bool,
    ssh: bool,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    read_any: bool,
    write_any: bool,
}

impl Allowed {
    fn parse(allows: &[String]) -> Result<Self, Failure> {
        let mut allowed = Self::default();
        for allow in allows.iter().flat_map(|allow| allow.split(',')) {
            let (key, value) = allow.split_once('=').unwrap_or((allow, ""));
            let (reads, writes) = match key {
                "network.host" => {
                    allowed.network_host = true;
                    continue;
                }
                "security.insecure" => {
                    allowed.insecure = true;
                    continue;
                }
                "ssh" => {
                    allowed.ssh = true;
                    continue;
                }
                "fs" => (true, true),
                "fs.read" => (true, false),
                "fs.write" => (false, true),
                other => {
                    return Err(Failure::usage(format!("`--allow {other}`: unknown entitlement"))
                        .with_help(
                            "known are network.host, security.insecure, ssh, fs=PATH, \
                             fs.read=PATH and fs.write=PATH",
                        ));
                }
            };
            let any = value == "*";
            allowed.read_any |= reads && any;
            allowed.write_any |= writes && any;
            let path = existing(Path::new(value));
            if reads {
                allowed.read.push(path.clone());
            }
            if writes {
                allowed.write.push(path);
            }
        }
        Ok(allowed)
    }
}

/// The path without links, as far as it exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|at| Some((at, std::fs::canonicalize(at).ok()?)));
    match found {
        Some((at, found)) => match absolute.strip_prefix(at) {
            Ok(rest) if !rest.as_os_str().is_empty() => found.join(rest),
            _ => found,
        },
        None => absolute,
    }
}

/// What a target reads and writes of this machine.
fn paths(target: &Target) -> (Vec<String>, Vec<String>) {
    let (mut read, mut write) = (Vec::new(), Vec::new());
    let places = places(target);
    let named = contexts(target).0.into_iter().map(|(_, place)| place.to_owned());
    let elsewhere = |place: &String| {
        is_remote(place)
            || ["docker-image:", "oci-layout:"].iter().any(|start| place.starts_with(start))
    };
    let all = std::iter::once(places.context.clone()).chain(places.dockerfile).chain(named);
    // The Dockerfile of a repository is there.
    let is_there = is_remote(&places.context);
    read.extend(
        all.filter(|place| !elsewhere(place)).filter(|place| !is_there || place.starts_with('/')),
    );
    read.extend(target.secrets.iter().flatten().map(|secret| secret.path.clone()));
    read.extend(target.ssh.iter().flatten().flat_map(|agent| agent.paths.clone()));
    let local = |kind: &str| kind == "local";
    let caches = target.cache_from.iter().flatten().filter(|cache| local(&cache.kind));
    read.extend(caches.filter_map(|cache| cache.attributes.get("src").cloned()));
    let caches = target.cache_to.iter().flatten().filter(|cache| local(&cache.kind));
    write.extend(caches.filter_map(|cache| cache.attributes.get("dest").cloned()));
    let outputs = target.outputs.iter().flatten().map(|output| output.destination.clone());
    write.extend(outputs.filter(|place| place != "-"));
    (read, write)
}

/// Whether the user has allowed all that the targets of a definition do.
pub(super) fn check(
    definition: &Definition,
    allows: &[String],
    config: &Config,
) -> Result<(), Failure> {
    let allowed = Allowed::parse(allows)?;
    let free = config.variable("BUILDX_BAKE_ENTITLEMENTS_FS").and_then(parse_bool) == Some(false);
    let home = existing(Path::new("."));
    let is_below = |path: &Path, places: &[PathBuf]| {
        path.starts_with(&home) || places.iter().any(|place| path.starts_with(place))
    };
    let mut missing = BTreeSet::new();
    for target in definition.targets.values() {
        for entitlement in target.entitlements.iter().flatten() {
            match entitlement.as_str() {
                "network.host" if !allowed.network_host => {
                    missing.insert("network.host".to_owned())
                }
                "security.insecure" if !allowed.insecure => {
                    missing.insert("security.insecure".to_owned())
                }
                _ => false,
            };
        }
        if target.ssh.iter().flatten().any(|agent| agent.paths.is_empty()) && !allowed.ssh && !free
        {
            missing.insert("ssh".to_owned());
        }
        let (read, write) = paths(target);
        let mut look = |list: Vec<String>, places: &[PathBuf], any: bool, key: &str| {
            for path in list.into_iter().filter(|path| !path.is_empty() && !free && !any) {
                let found = existing(Path::new(&path));
                if !is_below(&found, places) {
                    missing.insert(format!("{key}={}", found.display()));
                }
            }
        };
        look(read, &allowed.read, allowed.read_any, "fs.read");
        look(write, &allowed.write, allowed.write_any, "fs.write");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let asked: Vec<&str> = missing.iter().map(String::as_str).collect();
    let message = format!("additional privileges requested: {}", asked.join(", "));
    let flags: Vec<String> = asked.iter().map(|key| format!("--allow={key}")).collect();
    Err(Failure::input("not-allowed", message)
        .with_help(format!("pass `{}` to grant them", flags.join(" "))))
}

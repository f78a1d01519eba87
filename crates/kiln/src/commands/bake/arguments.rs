//! From a target of a bake file to the options of `kiln build`, and so to a request.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser;
use kiln_core::bake::Target;
use kiln_core::plan::normalize_context_name;
use kiln_core::source::SourceFile;
use kiln_engine::BakeTarget;

use super::Bake;
use crate::commands::build::Build;
use crate::config::Config;
use crate::failure::Failure;

/// `kiln build` as a command line of its own.
#[derive(Debug, Parser)]
#[command(name = "kiln build", no_binary_name = true)]
struct Line {
    #[command(flatten)]
    build: Build,
}

/// What the directory and the Dockerfile of a target are, as paths of this machine or places of the
/// web.
pub(super) struct Places {
    pub(super) context: String,
    /// `None` when the text is in the bake file.
    pub(super) dockerfile: Option<String>,
}

/// Whether a place is fetched.
pub(super) fn is_remote(place: &str) -> bool {
    let starts = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    starts.iter().any(|start| place.starts_with(start))
}

/// Where a target's context and Dockerfile are. A Dockerfile's path is one of the context, unless it
/// is absolute or says `cwd://`.
pub(super) fn places(target: &Target) -> Places {
    let context = target.context.clone().unwrap_or_else(|| ".".to_owned());
    let named = target.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned());
    let dockerfile = if target.dockerfile_inline.is_some() {
        None
    } else if let Some(path) = named.strip_prefix("cwd://") {
        let absolute = std::path::absolute(path);
        Some(absolute.map_or_else(|_| path.to_owned(), |path| path.display().to_string()))
    } else if is_remote(&context) || is_remote(&named) || named.starts_with('/') {
        Some(named)
    } else {
        let joined = Path::new(&context).join(&named);
        Some(joined.strip_prefix(".").unwrap_or(&joined).display().to_string())
    };
    Places { context, dockerfile }
}

/// Named contexts, those that are results of other targets apart.
pub(super) fn contexts(target: &Target) -> (Vec<(&str, &str)>, BTreeMap<String, String>) {
    let (mut places, mut links) = (Vec::new(), BTreeMap::new());
    for (name, place) in &target.contexts {
        if let Some(other) = place.strip_prefix("target:") {
            links.insert(normalize_context_name(name), other.to_owned());
        } else {
            places.push((name.as_str(), place.strip_prefix("cwd://").unwrap_or(place)));
        }
    }
    (places, links)
}

/// Refuses what kiln does not have.
fn refuse(name: &str, target: &Target) -> Result<(), Failure> {
    let refused = |what: &str, help: &str| {
        Err(Failure::usage(format!("target `{name}`: {what}")).with_help(help.to_owned()))
    };
    let wanted = target.attest.iter().flatten().find(|attestation| !attestation.disabled);
    if let Some(attestation) = wanted {
        let kind = &attestation.kind;
        let help = format!("`--set '*.attest=type={kind},disabled=true'` builds without it");
        return refused(&format!("kiln makes no attestations yet (`{kind}`)"), &help);
    }
    if target.policy.as_ref().is_some_and(|policies| !policies.is_empty()) {
        return refused("kiln has no source policies", "take `policy` out of the target");
    }
    if target.resources.is_some() {
        let help = "run kiln itself in a control group, and take `resources` out of the target";
        return refused("kiln does not limit memory and CPU yet", help);
    }
    Ok(())
}

fn pairs(map: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let said = map.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    said.map(|(key, value)| format!("{key}={value}")).collect()
}

fn texts<T: ToString>(list: Option<&Vec<T>>) -> Vec<String> {
    list.into_iter().flatten().map(ToString::to_string).collect()
}

/// What is empty says nothing.
fn text(value: Option<&String>) -> Vec<String> {
    value.into_iter().filter(|value| !value.is_empty()).cloned().collect()
}

impl Bake {
    /// The options of `kiln build` for a target.
    fn options(&self, name: &str, target: &Target) -> Result<Build, Failure> {
        let Places { context, dockerfile } = places(target);
        let outputs = target.outputs.iter().flatten().filter(|output| output.kind != "cacheonly");
        let outputs: Vec<String> = outputs.map(ToString::to_string).collect();
        // What is only built for others has no names.
        let is_exported = target.outputs.is_none() || !outputs.is_empty();
        let exported = |list: Vec<String>| if is_exported { list } else { Vec::new() };
        let named = contexts(target).0.into_iter();
        let calls = target.call.iter().filter(|call| !["", "build"].contains(&call.as_str()));
        let options: [(&str, Vec<String>); 20] = [
            ("file", dockerfile.into_iter().collect()),
            ("build-arg", pairs(&target.args)),
            ("label", pairs(&target.labels)),
            ("add-host", pairs(&target.extra_hosts)),
            ("build-context", named.map(|(name, place)| format!("{name}={place}")).collect()),
            ("output", outputs),
            ("call", calls.cloned().collect()),
            ("tag", exported(texts(target.tags.as_ref()))),
            ("annotation", exported(texts(target.annotations.as_ref()))),
            ("platform", texts(target.platforms.as_ref())),
            ("no-cache-filter", texts(target.no_cache_filter.as_ref())),
            ("ulimit", texts(target.ulimits.as_ref())),
            ("allow", texts(target.entitlements.as_ref())),
            ("cache-from", texts(target.cache_from.as_ref())),
            ("cache-to", texts(target.cache_to.as_ref())),
            ("secret", texts(target.secrets.as_ref())),
            ("ssh", texts(target.ssh.as_ref())),
            ("target", text(target.target.as_ref())),
            ("network", text(target.network.as_ref())),
            ("shm-size", text(target.shm_size.as_ref())),
        ];
        let mut words: Vec<String> = Vec::new();
        for (flag, values) in options {
            words.extend(values.into_iter().map(|value| format!("--{flag}={value}")));
        }
        let flags =
            [("no-cache", target.no_cache), ("pull", target.pull), ("locked", Some(self.locked))];
        let set = flags.iter().filter(|(_, value)| *value == Some(true));
        words.extend(set.map(|(flag, _)| format!("--{flag}")));
        if let Some(bundle) = &self.host_ca {
            words.push(match bundle {
                Some(path) => format!("--host-ca={}", path.display()),
                None => "--host-ca".to_owned(),
            });
        }
        words.extend(["--".to_owned(), context]);
        let mut line = Line::try_parse_from(words).map_err(|error| {
            // The first line says it; the rest is about another command line.
            let text = error.render().to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.strip_prefix("error: ").unwrap_or(text);
            // `for '--cache-to <CACHE>'` of an option that nobody wrote.
            let text = match text
                .split_once(" for '--")
                .map(|(before, rest)| (before, rest.split_once('\'')))
            {
                Some((before, Some((flag, rest)))) => {
                    format!("{before} for {}{rest}", flag.split(' ').next().unwrap_or(flag))
                }
                _ => text.to_owned(),
            };
            Failure::usage(format!("target `{name}`: {text}"))
        })?;
        if let Some(text) = &target.dockerfile_inline {
            let name = format!("dockerfile-inline of {name}");
            line.build.inline = Some(SourceFile::new(name, text.as_str()));
        }
        Ok(line.build)
    }

    /// What is built for a target, with warnings.
    pub(super) fn bake_target(
        &self,
        (name, target): (&str, &Target),
        config: &Config,
    ) -> Result<(BakeTarget, Vec<String>), Failure> {
        refuse(name, target)?;
        let (request, warnings) = self.options(name, target)?.request(config)?;
        let links = contexts(target).1;
        Ok((BakeTarget { name: name.to_owned(), request, links }, warnings))
    }

    /// `kiln build` of a target, for what is no build.
    pub(super) fn build_of(&self, name: &str, target: &Target) -> Result<Build, Failure> {
        self.options(name, target)
    }
}

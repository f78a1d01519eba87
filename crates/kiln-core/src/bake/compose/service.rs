//! One service as a target.

use std::collections::BTreeMap;

use super::merge::build_mapping;
use crate::bake::entry::{
    Attestation, CacheEntry, Entry, OutputEntry, SecretEntry, SshEntry, merge,
};
use crate::bake::problem::Problem;
use crate::bake::yaml::{Kind, Node};
use crate::bake::{Target, World, check_name};
use crate::diagnostic::did_you_mean;
use crate::dockerfile::parse_bool;
use crate::pattern::clean;

type Read<T> = Result<T, Problem>;

fn wrong(node: &Node, message: impl Into<String>) -> Problem {
    Problem::new("bake-compose", message).at(node.place)
}

/// What `build` may have; the rest is refused, as by compose's schema.
const KEYS: [&str; 26] = [
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
    "x-bake",
];

/// The target that a service is; `None` if it is not built.
pub(super) fn target(
    (name, service): (&str, &Node),
    project: &Node,
    world: &World,
) -> Read<Option<Target>> {
    let Some(build) = service.get("build").filter(|build| build.kind != Kind::Null) else {
        if service.get("image").and_then(Node::text).is_none() {
            let message = format!(
                "service \"{name}\" has neither an image nor a build context specified: invalid \
                 compose project"
            );
            return Err(wrong(service, message));
        }
        return Ok(None);
    };
    let build = build_mapping(build.clone());
    let Kind::Map(pairs) = &build.kind else {
        let message = format!("services.{name}.build must be a text or a mapping");
        return Err(wrong(&build, message));
    };
    for (key, node) in pairs {
        if !KEYS.contains(&key.as_str()) && !key.starts_with("x-") {
            let message = format!("services.{name}.build has no `{key}`");
            return Err(wrong(node, message).near(did_you_mean(key, KEYS)));
        }
    }
    let own_name = name.replace('.', "_");
    check_name(&own_name).map_err(|problem| problem.at(service.place))?;
    let text = |key: &str| build.get(key).and_then(Node::text).filter(|text| !text.is_empty());
    let flag = |key: &str| -> Read<Option<bool>> {
        let Some(node) = build.get(key) else { return Ok(None) };
        let value = flag_of(node)?;
        Ok(value.filter(|value| *value))
    };
    let inline = text("dockerfile_inline");
    let dockerfile = text("dockerfile");
    if let (Some(_), Some(node)) = (&dockerfile, build.get("dockerfile_inline"))
        && inline.is_some()
    {
        let message = "dockerfile and dockerfile_inline are two answers to one question";
        return Err(wrong(node, message));
    }
    let contexts = build.get("additional_contexts");
    let mut target = Target {
        name: own_name,
        context: text("context").map(|context| local_path(&context)),
        contexts: contexts.map(named_contexts).transpose()?.unwrap_or_default(),
        dockerfile,
        dockerfile_inline: inline,
        args: arguments(&build, service, world)?,
        labels: labels(&build)?,
        tags: texts(&build, "tags")?,
        cache_from: entries(&build, "cache_from")?,
        cache_to: entries(&build, "cache_to")?,
        target: text("target"),
        secrets: secrets(&build, project)?,
        ssh: agents(&build)?,
        platforms: texts(&build, "platforms")?,
        attest: attestations(&build)?,
        pull: flag("pull")?,
        no_cache: flag("no_cache")?,
        no_cache_filter: None,
        network: text("network"),
        shm_size: build.get("shm_size").map(shm_size).transpose()?.flatten(),
        ulimits: ulimits(&build)?,
        extra_hosts: extra_hosts(&build)?,
        ..Target::default()
    };
    if let Some(extension) = build.get("x-bake") {
        extend(&mut target, extension)?;
    }
    let image = service.get("image").and_then(Node::text).filter(|image| !image.is_empty());
    if let (true, Some(image)) = (target.tags.as_ref().is_none_or(Vec::is_empty), image) {
        target.tags = Some(vec![image]);
    }
    Ok(Some(target))
}

fn flag_of(node: &Node) -> Read<Option<bool>> {
    match &node.kind {
        Kind::Null => Ok(None),
        Kind::Bool(value) => Ok(Some(*value)),
        Kind::Text(text) => {
            let lower = text.to_lowercase();
            let known = parse_bool(text).or(match lower.as_str() {
                "true" | "y" | "yes" | "on" => Some(true),
                "false" | "n" | "no" | "off" => Some(false),
                _ => None,
            });
            known.map(Some).ok_or_else(|| wrong(node, format!("`{text}` is no bool")))
        }
        _ => Err(wrong(node, format!("a bool is needed, this is {}", node.kind_name()))),
    }
}

/// Places of files, as compose writes them.
fn local_path(path: &str) -> String {
    let is_elsewhere = path.contains("://")
        || path.starts_with("git@")
        || path.starts_with("github.com/")
        || ["service:", "target:", "docker-image:"].iter().any(|start| path.starts_with(start));
    if is_elsewhere || path.starts_with('~') { path.to_owned() } else { clean(path) }
}

/// A list of texts, or one of them.
fn list(node: &Node) -> Read<Vec<String>> {
    match &node.kind {
        Kind::Null => Ok(Vec::new()),
        Kind::List(items) => items
            .iter()
            .map(|item| {
                let needed =
                    || wrong(item, format!("a text is needed, this is {}", item.kind_name()));
                item.text().ok_or_else(needed)
            })
            .collect(),
        _ => Err(wrong(node, format!("a list is needed, this is {}", node.kind_name()))),
    }
}

fn texts(build: &Node, key: &str) -> Read<Option<Vec<String>>> {
    build.get(key).map(list).transpose()
}

fn entries<T: Entry>(build: &Node, key: &str) -> Read<Option<Vec<T>>> {
    let Some(node) = build.get(key) else { return Ok(None) };
    let texts = list(node)?;
    let parsed = parse_all(node, &texts)?;
    Ok((!parsed.is_empty()).then_some(parsed))
}

fn parse_all<T: Entry>(node: &Node, texts: &[String]) -> Read<Vec<T>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(T::parse(text).map_err(|why| wrong(node, why))?);
    }
    Ok(all)
}

/// `NAME=VALUE` and `NAME` in a list, or a mapping.
fn pairs(node: &Node) -> Read<Vec<(String, Option<String>)>> {
    match &node.kind {
        Kind::Map(pairs) => pairs
            .iter()
            .map(|(name, value)| match &value.kind {
                Kind::List(_) | Kind::Map(_) => {
                    Err(wrong(value, format!("`{name}` is {}, not a text", value.kind_name())))
                }
                _ => Ok((name.clone(), value.text())),
            })
            .collect(),
        _ => Ok(list(node)?
            .into_iter()
            .map(|text| match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text, None),
            })
            .collect()),
    }
}

/// What has no value gets the service's variable of that name, or the environment's.
fn arguments(
    build: &Node,
    service: &Node,
    world: &World,
) -> Read<BTreeMap<String, Option<String>>> {
    let Some(node) = build.get("args") else { return Ok(BTreeMap::new()) };
    let environment: BTreeMap<String, Option<String>> = match service.get("environment") {
        Some(node) => pairs(node)?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let known = |name: &str| {
        let own = environment.get(name).cloned().flatten();
        own.or_else(|| world.compose(name).map(str::to_owned))
    };
    let resolved = pairs(node)?.into_iter().filter_map(|(name, value)| {
        let value = value.or_else(|| known(&name))?;
        Some((name, Some(value)))
    });
    Ok(resolved.collect())
}

fn labels(build: &Node) -> Read<BTreeMap<String, Option<String>>> {
    let Some(node) = build.get("labels") else { return Ok(BTreeMap::new()) };
    let some = |(name, value): (String, Option<String>)| (name, Some(value.unwrap_or_default()));
    Ok(pairs(node)?.into_iter().map(some).collect())
}

/// Services are targets here.
fn named_contexts(node: &Node) -> Read<BTreeMap<String, String>> {
    let place = |place: String| {
        let service = place.strip_prefix("service:").or(place.strip_prefix("target:"));
        match service {
            Some(service) => format!("target:{}", service.replace('.', "_")),
            None => local_path(&place),
        }
    };
    let pairs = pairs(node)?.into_iter();
    Ok(pairs.map(|(name, value)| (name, place(value.unwrap_or_default()))).collect())
}

fn secrets(build: &Node, project: &Node) -> Read<Option<Vec<SecretEntry>>> {
    let Some(node) = build.get("secrets") else { return Ok(None) };
    let Kind::List(items) = &node.kind else {
        return Err(wrong(node, "secrets are a list"));
    };
    let mut all = Vec::new();
    for item in items {
        let named = item.text().or_else(|| item.get("source")?.text());
        let id = named.ok_or_else(|| wrong(item, "a secret needs a source"))?;
        let known = project.get("secrets");
        let Some(secret) = known.and_then(|known| known.get(&id)) else {
            let names = match known.map(|known| &known.kind) {
                Some(Kind::Map(pairs)) => pairs.iter().map(|(name, _)| name.as_str()).collect(),
                _ => Vec::new(),
            };
            let near = did_you_mean(&id, names);
            return Err(wrong(item, format!("undefined secret {id}")).near(near));
        };
        if secret.get("external").is_some_and(|node| flag_of(node).is_ok_and(|it| it == Some(true)))
        {
            return Err(wrong(secret, format!("unsupported external secret {id}")));
        }
        let text = |key: &str| secret.get(key).and_then(Node::text).unwrap_or_default();
        let path = Some(text("file")).filter(|path| !path.is_empty());
        let path = path.map(|path| local_path(&path)).unwrap_or_default();
        all.push(SecretEntry { id, path, variable: text("environment") });
    }
    Ok(Some(all))
}

fn agents(build: &Node) -> Read<Option<Vec<SshEntry>>> {
    let Some(node) = build.get("ssh") else { return Ok(None) };
    let agent = |(id, path): (String, Option<String>)| SshEntry {
        id,
        paths: path.into_iter().filter(|path| !path.is_empty()).collect(),
    };
    let mut agents: Vec<SshEntry> = match &node.kind {
        Kind::Text(id) => vec![agent((id.clone(), None))],
        _ => pairs(node)?.into_iter().map(agent).collect(),
    };
    agents.sort_by(|a, b| (&a.id, &a.paths).cmp(&(&b.id, &b.paths)));
    Ok(Some(agents))
}

fn attestations(build: &Node) -> Read<Option<Vec<Attestation>>> {
    let mut all = Vec::new();
    for kind in ["sbom", "provenance"] {
        let Some(node) = build.get(kind) else { continue };
        let text = node.text().unwrap_or_default();
        let text = match parse_bool(&text) {
            _ if text.is_empty() => continue,
            Some(wanted) => format!("type={kind},disabled={}", !wanted),
            None => format!("type={kind},{text}"),
        };
        all.extend(Attestation::parse(&text).map_err(|why| wrong(node, why))?);
    }
    Ok((!all.is_empty()).then_some(all))
}

/// Bytes as buildx shows them again.
fn shm_size(node: &Node) -> Read<Option<String>> {
    let Some(text) = node.text() else { return Ok(None) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1_u32,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(wrong(node, format!("`{text}` is no size"))),
    };
    let number: f64 =
        digits.trim().parse().map_err(|_| wrong(node, format!("`{text}` is no size")))?;
    let bytes = number * f64::from(factor);
    if bytes <= 0.0 {
        return Ok(None);
    }
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut shown, mut unit) = (bytes, 0);
    while shown >= 1024.0 && unit + 1 < units.len() {
        shown /= 1024.0;
        unit += 1;
    }
    Ok(Some(format!("{}{}", four_digits(shown), units[unit])))
}

/// Go's `%.4g`.
fn four_digits(number: f64) -> String {
    let before = if number < 1.0 { 1 } else { number.log10().floor() as usize + 1 };
    let text = format!("{number:.*}", 4_usize.saturating_sub(before));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn ulimits(build: &Node) -> Read<Option<Vec<String>>> {
    let Some(Kind::Map(limits)) = build.get("ulimits").map(|node| &node.kind) else {
        return Ok(None);
    };
    let limit = |(name, node): &(String, Node)| {
        let both = node.text();
        let soft = both.clone().or_else(|| node.get("soft")?.text());
        let hard = both.or_else(|| node.get("hard")?.text());
        match (soft, hard) {
            (Some(soft), Some(hard)) => Ok(format!("{name}={soft}:{hard}")),
            _ => Err(wrong(node, format!("ulimit `{name}` needs soft and hard"))),
        }
    };
    limits.iter().map(limit).collect::<Read<Vec<String>>>().map(Some)
}

fn extra_hosts(build: &Node) -> Read<BTreeMap<String, Option<String>>> {
    let Some(node) = build.get("extra_hosts") else { return Ok(BTreeMap::new()) };
    let mut hosts: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut add = |name: &str, address: String| {
        let known = hosts.entry(name.to_owned()).or_default();
        *known = Some(match known.take() {
            Some(before) => format!("{before},{address}"),
            None => address,
        });
    };
    match &node.kind {
        Kind::Map(pairs) => {
            for (name, node) in pairs {
                match node.text() {
                    Some(address) => add(name, address),
                    None => list(node)?.into_iter().for_each(|address| add(name, address)),
                }
            }
        }
        _ => {
            for text in list(node)? {
                let parts = text.split_once('=').or_else(|| text.split_once(':'));
                let (name, address) =
                    parts.ok_or_else(|| wrong(node, format!("`{text}` is no HOST=ADDRESS")))?;
                add(name, address.to_owned());
            }
        }
    }
    Ok(hosts)
}

/// `x-bake`: what compose has no words for.
fn extend(target: &mut Target, extension: &Node) -> Read<()> {
    let Kind::Map(parts) = &extension.kind else { return Ok(()) };
    fn append(own: &mut Option<Vec<String>>, more: Vec<String>) {
        let own = own.get_or_insert_default();
        for text in more {
            if !own.contains(&text) {
                own.push(text);
            }
        }
    }
    for (key, node) in parts {
        // One text is split at its blanks.
        let texts = || match &node.kind {
            Kind::Text(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            _ => list(node),
        };
        match key.as_str() {
            "tags" => append(&mut target.tags, texts()?),
            "platforms" => append(&mut target.platforms, texts()?),
            "no-cache-filter" => append(&mut target.no_cache_filter, texts()?),
            "cache-from" => {
                merge(&mut target.cache_from, Some(&parse_all::<CacheEntry>(node, &texts()?)?));
            }
            "cache-to" => {
                merge(&mut target.cache_to, Some(&parse_all::<CacheEntry>(node, &texts()?)?));
            }
            "secret" => {
                merge(&mut target.secrets, Some(&parse_all::<SecretEntry>(node, &texts()?)?));
            }
            "ssh" => {
                merge(&mut target.ssh, Some(&parse_all::<SshEntry>(node, &texts()?)?));
                let agents = target.ssh.get_or_insert_default();
                agents.sort_by(|a, b| (&a.id, &a.paths).cmp(&(&b.id, &b.paths)));
            }
            "output" => {
                merge(&mut target.outputs, Some(&parse_all::<OutputEntry>(node, &texts()?)?));
            }
            "pull" => target.pull = flag_of(node)?,
            "no-cache" => target.no_cache = flag_of(node)?,
            "contexts" => {
                for (name, place) in named_contexts(node)? {
                    target.contexts.entry(name).or_insert(place);
                }
            }
            // Others are nobody's: buildx does not look at them either.
            _ => {}
        }
    }
    Ok(())
}

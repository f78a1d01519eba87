//! Compose files: what their services say about building, as targets.
//!
//! Files are interpolated, merged and then read, as compose does it; of a service only `build`,
//! `image` and `environment` are looked at. `extends` within the files is followed. What would need
//! other files (`include`, `extends.file`, `env_file`) is refused where it matters.

mod merge;
mod service;

use super::interpolate::interpolate;
use super::problem::Problem;
use super::yaml::{self, Kind, Node};
use super::{Config, File, Group, World};
use crate::diagnostic::did_you_mean;

/// Whether a text without a telling name is a compose file.
pub(super) fn looks_like(text: &str) -> bool {
    yaml::parse(0, text)
        .is_ok_and(|root| matches!(root.get("services").map(|node| &node.kind), Some(Kind::Map(_))))
}

/// Reads the files at `indexes`, as one project.
pub(super) fn read(files: &[File], indexes: &[usize], world: &World) -> Result<Config, Problem> {
    let mut config = Config::default();
    let mut project: Option<Node> = None;
    for index in indexes {
        let file = &files[*index];
        let mut root = yaml::parse(*index, &file.text)?;
        if !matches!(root.kind, Kind::Map(_)) {
            let place = root.place;
            let message = match root.kind {
                Kind::Null => "empty compose file".to_owned(),
                _ => format!("a compose file is a mapping, this is {}", root.kind_name()),
            };
            return Err(Problem::new("bake-compose", message).at(place));
        }
        if let Some(include) = root.get("include") {
            let problem = Problem::new("bake-compose", "kiln does not follow `include` yet");
            return Err(problem.at(include.place).help("name the file with `-f`, too"));
        }
        interpolate_node(&mut root, world, &mut config.warnings)?;
        let mut services = take_services(root)?;
        merge::extend(&mut services)?;
        project = Some(match project.take() {
            None => services,
            Some(before) => merge::merge(before, services, &mut Vec::new())?,
        });
    }
    let Some(mut project) = project else { return Ok(config) };
    merge::enforce_unicity(&mut project);
    let Some(Kind::Map(services)) = project.get("services").map(|node| node.kind.clone()) else {
        return Ok(config);
    };
    let mut group = Group { name: "default".to_owned(), ..Group::default() };
    let mut services = services;
    services.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, service) in services {
        if let Some(target) = service::target((&name, &service), &project, world)? {
            group.targets.push(target.name.clone());
            config.targets.push(target);
        }
    }
    config.groups.push(group);
    Ok(config)
}

/// What matters of a file: services and secrets.
fn take_services(root: Node) -> Result<Node, Problem> {
    let place = root.place;
    let Kind::Map(pairs) = root.kind else { return Ok(root) };
    let names: Vec<String> = pairs.iter().map(|(name, _)| name.clone()).collect();
    let kept: Vec<(String, Node)> =
        pairs.into_iter().filter(|(name, _)| name == "services" || name == "secrets").collect();
    if kept.is_empty() {
        let near = names.iter().find(|name| did_you_mean(name, ["services"]).is_some());
        let problem = Problem::new("bake-compose", "empty compose file: it has no services");
        return Err(problem.at(place).near(near.map(|_| "services")));
    }
    for (name, node) in &kept {
        let is_nothing = node.kind == Kind::Null && name == "secrets";
        if !is_nothing && !matches!(node.kind, Kind::Map(_)) {
            let message = format!("{name} must be a mapping");
            return Err(Problem::new("bake-compose", message).at(node.place));
        }
    }
    Ok(Node::new(place, Kind::Map(kept)))
}

/// Replaces variables in all values.
fn interpolate_node(
    node: &mut Node,
    world: &World,
    warnings: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let place = node.place;
    match &mut node.kind {
        Kind::Text(text) if text.contains('$') => {
            let lookup = |name: &str| world.compose(name);
            let mut unset = |name: &str| {
                let message = format!("the variable `{name}` is not set, and empty here");
                let warning = Problem::new("bake-variable", message).at(place).warning();
                if !warnings
                    .iter()
                    .any(|known| known.diagnostic.message == warning.diagnostic.message)
                {
                    warnings.push(warning);
                }
            };
            *text = interpolate(text, &lookup, &mut unset)
                .map_err(|failed| Problem::new("bake-compose", failed.to_string()).at(place))?;
        }
        Kind::List(items) => {
            for item in items {
                interpolate_node(item, world, warnings)?;
            }
        }
        Kind::Map(pairs) => {
            for (_, item) in pairs {
                interpolate_node(item, world, warnings)?;
            }
        }
        _ => {}
    }
    Ok(())
}

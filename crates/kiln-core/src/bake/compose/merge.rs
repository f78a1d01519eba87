//! Several compose files as one: later ones over earlier ones, key by key.

use crate::bake::problem::{Place, Problem};
use crate::bake::yaml::{Kind, Node};
use crate::diagnostic::did_you_mean;

/// Parts of `build` that are written as a list of `NAME=VALUE` or as a mapping.
const PAIRS: [&str; 4] = ["args", "labels", "additional_contexts", "extra_hosts"];

/// Lays `over` over `under`; `way` is where in the file both are.
pub(super) fn merge(under: Node, over: Node, way: &mut Vec<String>) -> Result<Node, Problem> {
    match over.tag.as_deref() {
        Some("reset") => return Ok(Node::new(over.place, Kind::Null)),
        Some("override") => return Ok(Node { tag: None, ..over }),
        _ => {}
    }
    let is_build = way.len() == 3 && way[0] == "services" && way[2] == "build";
    let is_part = way.len() == 4 && way[2] == "build" && PAIRS.contains(&way[3].as_str());
    let is_environment = way.len() == 3 && way[2] == "environment";
    let (under, over) = if is_build {
        (build_mapping(under), build_mapping(over))
    } else if is_part || is_environment {
        (pair_list(under), pair_list(over))
    } else {
        (under, over)
    };
    let place = over.place;
    Ok(match (under.kind, over.kind) {
        (kind, Kind::Null) => Node::new(under.place, kind),
        (Kind::Map(mut pairs), Kind::Map(others)) => {
            for (name, node) in others {
                let Some(at) = pairs.iter().position(|(known, _)| *known == name) else {
                    if node.tag.as_deref() != Some("reset") {
                        pairs.push((name, node));
                    }
                    continue;
                };
                let is_reset = node.tag.as_deref() == Some("reset");
                if is_reset {
                    pairs.remove(at);
                    continue;
                }
                way.push(name);
                let (name, before) = pairs.remove(at);
                pairs.insert(at, (name, merge(before, node, way)?));
                way.pop();
            }
            Node::new(place, Kind::Map(pairs))
        }
        (Kind::List(mut items), Kind::List(others)) => {
            items.extend(others);
            Node::new(place, Kind::List(items))
        }
        (Kind::List(_) | Kind::Map(_), _) => {
            let message = format!("cannot override {}", way.join("."));
            return Err(Problem::new("bake-compose", message).at(place));
        }
        (_, kind) => Node::new(place, kind),
    })
}

/// `build: DIR` in full.
pub(super) fn build_mapping(node: Node) -> Node {
    match node.kind {
        Kind::Text(_) => {
            let place = node.place;
            Node::new(place, Kind::Map(vec![("context".to_owned(), node)]))
        }
        _ => node,
    }
}

/// A mapping as a list of `NAME=VALUE`.
fn pair_list(node: Node) -> Node {
    let Kind::Map(pairs) = node.kind else { return node };
    let mut items = Vec::new();
    for (name, value) in pairs {
        let place = value.place;
        match (&value.kind, value.text()) {
            (Kind::List(several), _) => {
                let texts = several.iter().filter_map(Node::text);
                items.extend(
                    texts.map(|text| Node::new(place, Kind::Text(format!("{name}={text}")))),
                );
            }
            (_, Some(text)) => items.push(Node::new(place, Kind::Text(format!("{name}={text}")))),
            _ => items.push(Node::new(place, Kind::Text(name))),
        }
    }
    Node::new(node.place, Kind::List(items))
}

/// Of a list's entries with one name the last one counts, where the first one stands.
pub(super) fn enforce_unicity(project: &mut Node) {
    let Kind::Map(roots) = &mut project.kind else { return };
    let services = roots.iter_mut().filter(|(name, _)| name == "services");
    for (_, services) in services {
        let Kind::Map(services) = &mut services.kind else { continue };
        for (_, service) in services {
            let Kind::Map(parts) = &mut service.kind else { continue };
            for (_, build) in parts.iter_mut().filter(|(name, _)| name == "build") {
                let Kind::Map(parts) = &mut build.kind else { continue };
                let named = ["args", "labels", "additional_contexts", "tags"];
                for (_, part) in parts.iter_mut().filter(|(name, _)| named.contains(&name.as_str()))
                {
                    unify(part);
                }
            }
        }
    }
}

fn unify(node: &mut Node) {
    let Kind::List(items) = &mut node.kind else { return };
    let name = |node: &Node| {
        let text = node.text().unwrap_or_default();
        text.split('=').next().unwrap_or_default().to_owned()
    };
    let mut kept: Vec<Node> = Vec::new();
    for item in items.drain(..) {
        match kept.iter().position(|known| name(known) == name(&item)) {
            Some(at) => kept[at] = item,
            None => kept.push(item),
        }
    }
    *items = kept;
}

/// Follows `extends` of all services of a file.
pub(super) fn extend(project: &mut Node) -> Result<(), Problem> {
    let Kind::Map(roots) = &mut project.kind else { return Ok(()) };
    let Some((_, services)) = roots.iter_mut().find(|(name, _)| name == "services") else {
        return Ok(());
    };
    let Kind::Map(services) = &mut services.kind else { return Ok(()) };
    let names: Vec<String> = services.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        extended(services, &name, &mut Vec::new())?;
    }
    Ok(())
}

/// The base that a service names, and where.
fn base(service: &Node) -> Result<Option<(String, Place)>, Problem> {
    let Some(extends) = service.get("extends") else { return Ok(None) };
    let wrong = |message: &str| Problem::new("bake-compose", message).at(extends.place);
    if let Some(file) = extends.get("file") {
        let problem = Problem::new("bake-compose", "kiln does not follow `extends.file` yet");
        return Err(problem.at(file.place).help("name the file with `-f`, and leave `file` out"));
    }
    let named = extends.text().or_else(|| extends.get("service")?.text());
    Ok(Some((named.ok_or_else(|| wrong("`extends` needs a service"))?, extends.place)))
}

fn extended(
    services: &mut Vec<(String, Node)>,
    name: &str,
    way: &mut Vec<String>,
) -> Result<(), Problem> {
    let Some(at) = services.iter().position(|(known, _)| known == name) else { return Ok(()) };
    let Some((wanted, place)) = base(&services[at].1)? else { return Ok(()) };
    if way.contains(&wanted) || wanted == name {
        let message = format!("service `{name}` extends itself");
        return Err(Problem::new("bake-compose", message).at(place));
    }
    if !services.iter().any(|(known, _)| *known == wanted) {
        let names: Vec<&str> = services.iter().map(|(known, _)| known.as_str()).collect();
        let message = format!("there is no service `{wanted}`");
        let problem = Problem::new("bake-compose", message).at(place);
        return Err(problem.near(did_you_mean(&wanted, names)));
    }
    way.push(name.to_owned());
    extended(services, &wanted, way)?;
    way.pop();
    let under = services.iter().find(|(known, _)| *known == wanted).map(|(_, node)| node.clone());
    let at = services.iter().position(|(known, _)| known == name).expect("it was there");
    let mut over = services[at].1.clone();
    if let Kind::Map(parts) = &mut over.kind {
        parts.retain(|(part, _)| part != "extends");
    }
    let mut under = under.expect("it was there");
    if let Kind::Map(parts) = &mut under.kind {
        parts.retain(|(part, _)| part != "extends");
    }
    let mut way = vec!["services".to_owned(), name.to_owned()];
    services[at].1 = merge(under, over, &mut way)?;
    Ok(())
}

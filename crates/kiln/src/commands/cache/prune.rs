//! `kiln cache prune` and `kiln cache rm`

use std::str::FromStr;
use std::time::Duration;

use kiln_store::gc::{CacheFilter, CachePolicy, Prune as What, Pruned};
use kiln_store::inventory::Kind;

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{count, size};
use crate::render::terminal;
use crate::session::Session;
use crate::settings::{self, parse_duration, parse_size};

/// Remove cache
///
/// Without options: what nothing can use any more, and what [cache] of kiln.toml does not keep. Images that
/// have names stay whole. What saves the least time for its bytes goes first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln cache prune --dry-run                     what would go
  kiln cache prune --keep-storage 10GB           until the store holds no more
  kiln cache prune --filter until=168h           what was not used for a week
  kiln cache prune --filter type=mount           directories of RUN --mount=type=cache
  kiln cache prune --all --force                 everything that no image needs")]
pub(super) struct Prune {
    /// All cache
    #[arg(short, long)]
    all: bool,
    /// Of these alone: type=layer|base|mount|context, stage=NAME, id=ID, until=DURATION; repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<FilterOption>,
    /// Until the store holds no more than this: 10GB, 512MiB
    #[arg(long, value_name = "SIZE", visible_alias = "max-used-space", value_parser = parse_size)]
    keep_storage: Option<u64>,
    /// What was not used for so long: 72h, 30d
    #[arg(long, value_name = "DURATION", visible_alias = "unused-for", value_parser = parse_duration)]
    keep_duration: Option<Duration>,
    /// Remove nothing, and say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// List what goes
    #[arg(short, long)]
    verbose: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove cache mounts, or other things of the cache, by id
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln cache rm /var/cache/uv                 a cache mount
  kiln cache rm 8d3b0e1f52a9                  what a step made")]
pub(super) struct Remove {
    /// Ids, as `kiln cache ls` has them; those of layers may be cut short
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// `--filter`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterOption {
    Kind(Kind),
    Stage(String),
    Id(String),
    UnusedFor(Duration),
}

impl FromStr for FilterOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("it has the form KEY=VALUE")?;
        match key {
            "type" => kind(value).map(Self::Kind),
            "stage" => Ok(Self::Stage(value.to_owned())),
            "id" => Ok(Self::Id(value.to_owned())),
            "until" | "unused-for" => parse_duration(value).map(Self::UnusedFor),
            _ => Err(format!("unknown key `{key}`; known are type, stage, id, until")),
        }
    }
}

/// A kind by its name, or by buildx's.
fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "regular" => Ok(Kind::Layer),
        "exec.cachemount" => Ok(Kind::CacheMount),
        "source.local" => Ok(Kind::Context),
        _ => Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            format!("there is no type `{name}`; there are layer, base, mount and context")
        }),
    }
}

/// What `--filter` says in all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) filter: CacheFilter,
    pub(super) unused_for: Option<Duration>,
}

impl Selection {
    pub(super) fn of(options: &[FilterOption]) -> Self {
        let mut selection = Self::default();
        for option in options {
            match option {
                FilterOption::Kind(kind) => selection.filter.kinds.push(*kind),
                FilterOption::Stage(stage) => selection.filter.stages.push(stage.clone()),
                FilterOption::Id(id) => selection.filter.ids.push(id.clone()),
                FilterOption::UnusedFor(age) => selection.unused_for = Some(*age),
            }
        }
        selection
    }
}

/// What the settings do not keep.
pub(super) fn by_policy(policy: &CachePolicy) -> What {
    What { older_than: policy.older_than, max_bytes: policy.max_bytes, ..What::default() }
}

/// All cache.
pub(super) fn everything() -> What {
    What { all: true, ..What::default() }
}

impl Prune {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let what = self.what(config)?;
        let session = Session::open(config)?;
        if self.dry_run {
            render::print_lines(&told(&session.prunable(&what)?, ("would remove", true)));
            return Ok(());
        }
        if self.all && !self.force && terminal::stdin_is_terminal() {
            let question = "This removes all cache that no image needs. Go on? [y/N] ";
            if !terminal::ask(question).is_some_and(|answer| is_yes(&answer)) {
                return Ok(());
            }
        }
        let pruned = session.prune(&what)?;
        render::print_lines(&told(&pruned, ("removed", self.verbose)));
        Ok(())
    }

    /// What is to go.
    fn what(&self, config: &Config) -> Result<What, Failure> {
        let Selection { filter, unused_for } = Selection::of(&self.filters);
        let named = What {
            older_than: self.keep_duration.or(unused_for),
            max_bytes: self.keep_storage,
            all: self.all,
            filter,
        };
        if named == What::default() {
            return Ok(by_policy(&settings::cache_policy(config)?));
        }
        Ok(named)
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// What was removed, or would be.
fn told(pruned: &Pruned, (verb, lists): (&str, bool)) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if lists {
        let name = |holding: &kiln_store::inventory::Holding| {
            format!("{:<9}{}", holding.kind.name(), holding.name)
        };
        lines.extend(pruned.removed.iter().map(name));
    }
    let kinds = [
        (Kind::Layer, "layer"),
        (Kind::Base, "base image"),
        (Kind::CacheMount, "cache mount"),
        (Kind::Context, "context"),
    ];
    let counts = kinds.map(|(kind, noun)| (pruned.count(kind), noun));
    let parts: Vec<String> = counts
        .into_iter()
        .chain([(pruned.blobs, "blob")])
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(number, noun))
        .collect();
    if parts.is_empty() {
        lines.push("nothing to remove".to_owned());
        return lines;
    }
    lines.push(format!("{verb} {}: {}", parts.join(", "), size(pruned.freed_bytes)));
    lines
}

impl Remove {
    /// Runs the command: removes what it can, and fails when there was an id that is not there.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        for id in &self.ids {
            let filter = CacheFilter { ids: vec![id.clone()], ..CacheFilter::default() };
            let what = What { filter, ..What::default() };
            let found: Vec<_> = {
                let inventory = session.inventory()?;
                inventory.holdings.into_iter().filter(|holding| what.filter.has(holding)).collect()
            };
            let refused = |message: String| Failure::input("no-cache", message);
            match found.as_slice() {
                [] => {
                    return Err(refused(format!("nothing in the cache has the id `{id}`"))
                        .with_help("`kiln cache ls` lists it"));
                }
                [holding] if holding.is_held => {
                    return Err(refused(format!("an image needs `{id}`"))
                        .with_help("`kiln rmi` removes names of images"));
                }
                [_] => {}
                several => {
                    let number = several.len();
                    return Err(refused(format!("`{id}` is the beginning of {number} ids")));
                }
            }
            let pruned = session.prune(&what)?;
            if pruned.removed.is_empty() {
                return Err(refused(format!("`{id}` is in use")));
            }
            render::print_lines(&told(&pruned, ("removed", true)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::inventory;
    use super::*;

    #[test]
    fn filters_are_read() {
        let read = |text: &str| text.parse::<FilterOption>();
        assert_eq!(read("type=mount"), Ok(FilterOption::Kind(Kind::CacheMount)));
        assert_eq!(read("type=regular"), Ok(FilterOption::Kind(Kind::Layer)));
        assert_eq!(read("until=24h"), Ok(FilterOption::UnusedFor(Duration::from_hours(24))));
        assert_eq!(
            read("type=frontend").unwrap_err(),
            "there is no type `frontend`; there are layer, base, mount and context"
        );
        assert_eq!(read("x=y").unwrap_err(), "unknown key `x`; known are type, stage, id, until");
        read("until").unwrap_err();
        let both = Selection::of(&[read("stage=a").unwrap(), read("stage=b").unwrap()]);
        assert_eq!(both.filter.stages, ["a", "b"]);
    }

    #[test]
    fn what_went_is_told() {
        let removed = inventory().holdings;
        let pruned = Pruned { removed, blobs: 3, freed_bytes: 1_200_000_000 };
        insta::assert_snapshot!(told(&pruned, ("would remove", true)).join("\n"), @r"
        layer    [app 2/5] RUN uv sync
        layer    [docs 3/3] RUN make
        base     docker.io/library/python:3.12-slim for linux/amd64
        mount    /var/cache/uv
        context  digests of files
        would remove 2 layers, 1 base image, 1 cache mount, 1 context, 3 blobs: 1.20GB
        ");
        let nothing = told(&Pruned::default(), ("removed", false));
        assert_eq!(nothing, ["nothing to remove"]);
    }
}

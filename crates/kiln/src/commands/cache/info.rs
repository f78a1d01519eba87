//! `kiln cache info`

use std::collections::BTreeMap;

use jiff::Timestamp;
use kiln_store::gc::{CachePolicy, FreeSpace, Pruned};
use kiln_store::inventory::{Holding, Inventory, Kind};
use serde_json::{Value, json};

use super::Format;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{age, count, size};
use crate::render::table::{Align, table};
use crate::session::Session;
use crate::settings;

/// Stages that are shown, the largest first.
const STAGES: usize = 12;
/// Ages that things are sorted by, in days, and what they are called.
const AGES: [(u64, &str); 4] =
    [(1, "today"), (7, "this week"), (30, "this month"), (u64::MAX, "older")];

/// Show how much the store holds: by kind, stage and age, and what a prune would free
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln cache info
  kiln cache info --format json | jq .size_bytes")]
pub(super) struct Info {
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// All that is told.
struct Summary<'a> {
    root: String,
    inventory: &'a Inventory,
    images: usize,
    policy: CachePolicy,
    /// What a prune would free, and one with `--all`.
    prunable: [Pruned; 2],
    now: u64,
}

impl Info {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let policy = settings::cache_policy(config)?;
        let summary = Summary {
            root: config.root().display().to_string(),
            inventory: &session.inventory()?,
            images: session.images()?.iter().filter(|image| image.name.is_some()).count(),
            policy,
            prunable: [
                session.prunable(&super::prune::by_policy(&policy))?,
                session.prunable(&super::prune::everything())?,
            ],
            now: Timestamp::now().as_second().cast_unsigned(),
        };
        let lines = match self.format {
            Format::Table => lines(&summary),
            Format::Json => vec![document(&summary).to_string()],
        };
        render::print_lines(&lines);
        Ok(())
    }
}

/// Things of one kind, stage or age.
#[derive(Default)]
struct Group {
    count: usize,
    bytes: u64,
    shared_bytes: u64,
    used_unix: u64,
}

/// Groups in the order of their names.
fn groups<'a, K: Ord>(
    inventory: &'a Inventory,
    key: impl Fn(&'a Holding) -> Option<K>,
) -> BTreeMap<K, Group> {
    let mut groups: BTreeMap<K, Group> = BTreeMap::new();
    for holding in &inventory.holdings {
        let Some(key) = key(holding) else { continue };
        let group = groups.entry(key).or_default();
        group.count += 1;
        group.bytes += inventory.bytes_of(holding);
        group.shared_bytes += inventory.shared_bytes_of(holding);
        group.used_unix = group.used_unix.max(holding.used_unix);
    }
    groups
}

fn age_of(used_unix: u64, now: u64) -> usize {
    let days = now.saturating_sub(used_unix) / 86_400;
    AGES.iter().position(|(most, _)| days < *most).unwrap_or(AGES.len() - 1)
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Layer => "layers",
        Kind::Base => "base images",
        Kind::CacheMount => "cache mounts",
        Kind::Context => "contexts",
    }
}

fn lines(summary: &Summary<'_>) -> Vec<String> {
    let Summary { root, inventory, images, now, .. } = summary;
    let total = inventory.total_bytes();
    let mut lines = vec![
        format!(
            "{root}: {}, {} of it held by {}",
            size(total),
            size(inventory.held_bytes()),
            count(*images, "image name")
        ),
        String::new(),
    ];
    let columns = |first| {
        [
            (first, Align::Left),
            ("COUNT", Align::Right),
            ("SIZE", Align::Right),
            ("SHARED", Align::Right),
            ("LAST USED", Align::Left),
        ]
    };
    let row = |name: &str, group: &Group| {
        let shared = if group.shared_bytes > 0 { size(group.shared_bytes) } else { String::new() };
        let ago = i64::try_from(now.saturating_sub(group.used_unix)).unwrap_or(i64::MAX);
        vec![name.to_owned(), group.count.to_string(), size(group.bytes), shared, age(ago)]
    };
    let kinds = groups(inventory, |holding| Some(holding.kind));
    let rows: Vec<_> = kinds.iter().map(|(kind, group)| row(plural(*kind), group)).collect();
    lines.extend(table(&columns("KIND"), &rows));
    let stages = groups(inventory, |holding| holding.stage.as_deref());
    if !stages.is_empty() {
        let mut stages: Vec<_> = stages.into_iter().collect();
        stages.sort_by_key(|(_, group)| std::cmp::Reverse(group.bytes));
        let rows: Vec<_> =
            stages.iter().take(STAGES).map(|(name, group)| row(name, group)).collect();
        lines.push(String::new());
        lines.extend(table(&columns("STAGE"), &rows));
        if stages.len() > STAGES {
            lines.push(format!("and {} more: `--format json` has all", stages.len() - STAGES));
        }
    }
    let ages = groups(inventory, |holding| Some(age_of(holding.used_unix, *now)));
    let rows: Vec<_> = ages.iter().map(|(position, group)| row(AGES[*position].1, group)).collect();
    lines.push(String::new());
    lines.extend(table(&columns("USED"), &rows));
    lines.push(String::new());
    lines.push(policy_line(&summary.policy));
    let [pruned, all] = &summary.prunable;
    lines.push(format!(
        "`kiln cache prune` would free {}, with `--all` {}",
        size(pruned.freed_bytes),
        size(all.freed_bytes)
    ));
    lines
}

/// What the settings say of keeping cache.
fn policy_line(policy: &CachePolicy) -> String {
    let mut parts = Vec::new();
    if let Some(bytes) = policy.max_bytes {
        parts.push(format!("at most {}", size(bytes)));
    }
    if let Some(duration) = policy.older_than {
        parts.push(format!("nothing that was not used for {}", render::format::days(duration)));
    }
    match policy.min_free {
        Some(FreeSpace::Percent(percent @ 1..)) => {
            parts.push(format!("only what leaves {percent}% of the disk free"));
        }
        Some(FreeSpace::Bytes(bytes @ 1..)) => {
            parts.push(format!("only what leaves {} of the disk free", size(bytes)));
        }
        _ => {}
    }
    if parts.is_empty() {
        parts.push("all cache".to_owned());
    }
    format!("After a build the store keeps {} ([cache] of kiln.toml)", parts.join(", "))
}

fn document(summary: &Summary<'_>) -> Value {
    let inventory = summary.inventory;
    let list = |groups: Vec<(String, Group)>| -> Vec<Value> {
        let entry = |(name, group): (String, Group)| {
            json!({
                "name": name,
                "count": group.count,
                "size_bytes": group.bytes,
                "shared_bytes": group.shared_bytes,
                "last_used_unix": group.used_unix,
            })
        };
        groups.into_iter().map(entry).collect()
    };
    let kinds = groups(inventory, |holding| Some(holding.kind.name().to_owned()));
    let stages = groups(inventory, |holding| holding.stage.clone());
    let ages = groups(inventory, |holding| Some(age_of(holding.used_unix, summary.now)));
    let ages = ages.into_iter().map(|(position, group)| (AGES[position].1.to_owned(), group));
    let [pruned, all] = &summary.prunable;
    json!({
        "root": summary.root,
        "size_bytes": inventory.total_bytes(),
        "held_bytes": inventory.held_bytes(),
        "kinds": list(kinds.into_iter().collect()),
        "stages": list(stages.into_iter().collect()),
        "ages": list(ages.collect()),
        "prunable_bytes": pruned.freed_bytes,
        "prunable_all_bytes": all.freed_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples::{NOW, inventory};
    use super::*;

    #[test]
    fn a_store_in_short() {
        let policy = CachePolicy {
            max_bytes: Some(20_000_000_000),
            older_than: Some(Duration::from_hours(720)),
            min_free: Some(FreeSpace::Percent(5)),
        };
        let freed = |freed_bytes| Pruned { freed_bytes, ..Pruned::default() };
        let summary = Summary {
            root: "/var/lib/kiln".to_owned(),
            inventory: &inventory(),
            images: 1,
            policy,
            prunable: [freed(7_000_000), freed(329_041_000)],
            now: NOW,
        };
        insta::assert_snapshot!(lines(&summary).join("\n"), @r"
        /var/lib/kiln: 502MB, 172MB of it held by 1 image name

        KIND           COUNT     SIZE   SHARED   LAST USED
        layers             2    139MB   31.0MB   1 minute ago
        base images        1   45.0MB   45.0MB   1 minute ago
        cache mounts       1    310MB            1 minute ago
        contexts           1   41.0kB            1 minute ago

        STAGE   COUNT     SIZE   SHARED   LAST USED
        app         1    127MB   31.0MB   1 minute ago
        docs        1   12.0MB            1 week ago

        USED         COUNT     SIZE   SHARED   LAST USED
        today            4    482MB   76.0MB   1 minute ago
        this month       1   12.0MB            1 week ago

        After a build the store keeps at most 20.0GB, nothing that was not used for 30 days, only what leaves 5% of the disk free ([cache] of kiln.toml)
        `kiln cache prune` would free 7.00MB, with `--all` 329MB
        ");
        insta::assert_snapshot!(format!("{:#}", document(&summary)), @r#"
        {
          "root": "/var/lib/kiln",
          "size_bytes": 501941000,
          "held_bytes": 172000000,
          "kinds": [
            {
              "name": "base",
              "count": 1,
              "size_bytes": 45000000,
              "shared_bytes": 45000000,
              "last_used_unix": 1772452710
            },
            {
              "name": "context",
              "count": 1,
              "size_bytes": 41000,
              "shared_bytes": 0,
              "last_used_unix": 1772452710
            },
            {
              "name": "layer",
              "count": 2,
              "size_bytes": 139000000,
              "shared_bytes": 31000000,
              "last_used_unix": 1772452710
            },
            {
              "name": "mount",
              "count": 1,
              "size_bytes": 310000000,
              "shared_bytes": 0,
              "last_used_unix": 1772452710
            }
          ],
          "stages": [
            {
              "name": "app",
              "count": 1,
              "size_bytes": 127000000,
              "shared_bytes": 31000000,
              "last_used_unix": 1772452710
            },
            {
              "name": "docs",
              "count": 1,
              "size_bytes": 12000000,
              "shared_bytes": 0,
              "last_used_unix": 1771588800
            }
          ],
          "ages": [
            {
              "name": "today",
              "count": 4,
              "size_bytes": 482041000,
              "shared_bytes": 76000000,
              "last_used_unix": 1772452710
            },
            {
              "name": "this month",
              "count": 1,
              "size_bytes": 12000000,
              "shared_bytes": 0,
              "last_used_unix": 1771588800
            }
          ],
          "prunable_bytes": 7000000,
          "prunable_all_bytes": 329041000
        }
        "#);
        assert_eq!(
            policy_line(&CachePolicy::default()),
            "After a build the store keeps all cache ([cache] of kiln.toml)"
        );
    }
}

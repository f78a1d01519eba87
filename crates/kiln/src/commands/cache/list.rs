//! `kiln cache ls`

use jiff::Timestamp;
use kiln_store::gc::CacheFilter;
use kiln_store::inventory::{Holding, Inventory, Kind};
use serde_json::{Value, json};

use super::Format;
use super::prune::{FilterOption, Selection};
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{age, size};
use crate::render::summary::short;
use crate::render::table::{Align, table};
use crate::session::Session;

/// List what the store holds, one by one, the largest first
#[derive(Debug, clap::Args)]
#[command(
    alias = "du",
    after_help = "Examples:
  kiln cache ls --filter type=mount          directories of RUN --mount=type=cache
  kiln cache ls --filter stage=app           what steps of a stage made
  kiln cache ls --filter until=168h          what was not used for a week"
)]
pub(super) struct List {
    /// Of these alone: type=layer|base|mount|context, stage=NAME, id=ID, until=DURATION; repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<FilterOption>,
    /// How it is written; JSON is one document per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let Selection { filter, unused_for } = Selection::of(&self.filters);
        let now = Timestamp::now().as_second().cast_unsigned();
        let oldest = unused_for.map_or(u64::MAX, |age| now.saturating_sub(age.as_secs()));
        let mut inventory = Session::open(config)?.inventory()?;
        let chosen = chosen(&mut inventory, &filter, oldest);
        let lines = match (self.quiet, self.format) {
            (true, _) => chosen.iter().map(|holding| holding.id.clone()).collect(),
            (false, Format::Table) => rows(&inventory, &chosen, now),
            (false, Format::Json) => {
                chosen.iter().map(|holding| document(&inventory, holding).to_string()).collect()
            }
        };
        render::print_lines(&lines);
        Ok(())
    }
}

/// What passes the filter and was last used before a time, the largest first.
fn chosen(inventory: &mut Inventory, filter: &CacheFilter, before: u64) -> Vec<Holding> {
    let passes = |holding: &&Holding| {
        filter.has(holding) && (before == u64::MAX || holding.used_unix < before)
    };
    let mut chosen: Vec<Holding> = inventory.holdings.iter().filter(passes).cloned().collect();
    chosen.sort_by_key(|holding| std::cmp::Reverse(inventory.bytes_of(holding)));
    chosen
}

/// An id as it is shown: that of a layer is long.
fn shown_id(holding: &Holding) -> String {
    match holding.kind {
        Kind::Layer | Kind::Context => short(&holding.id),
        Kind::Base | Kind::CacheMount => holding.id.clone(),
    }
}

fn rows(inventory: &Inventory, chosen: &[Holding], now: u64) -> Vec<String> {
    let header = [
        ("ID", Align::Left),
        ("TYPE", Align::Left),
        ("SIZE", Align::Right),
        ("LAST USED", Align::Left),
        ("MADE IN", Align::Right),
        ("IN USE", Align::Left),
        ("WHAT", Align::Left),
    ];
    let row = |holding: &Holding| {
        let ago = i64::try_from(now.saturating_sub(holding.used_unix)).unwrap_or(i64::MAX);
        vec![
            shown_id(holding),
            holding.kind.name().to_owned(),
            size(inventory.bytes_of(holding)),
            age(ago),
            holding.made_in.map(render::format::duration).unwrap_or_default(),
            if holding.is_held { "yes".to_owned() } else { String::new() },
            match holding.kind {
                Kind::Base => holding.platform.clone().unwrap_or_default(),
                Kind::CacheMount => String::new(),
                Kind::Layer | Kind::Context => render::text::truncate(&holding.name, 60),
            },
        ]
    };
    table(&header, &chosen.iter().map(row).collect::<Vec<_>>())
}

fn document(inventory: &Inventory, holding: &Holding) -> Value {
    json!({
        "id": holding.id,
        "type": holding.kind.name(),
        "name": holding.name,
        "stage": holding.stage,
        "platform": holding.platform,
        "size_bytes": inventory.bytes_of(holding),
        "shared_bytes": inventory.shared_bytes_of(holding),
        "last_used_unix": holding.used_unix,
        "made_in_ms": holding.made_in.map(|made_in| made_in.as_millis() as u64),
        "in_use": holding.is_held,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{NOW, inventory};
    use super::*;

    #[test]
    fn what_a_store_holds() {
        let mut all = inventory();
        let chosen_all = chosen(&mut all, &CacheFilter::default(), u64::MAX);
        insta::assert_snapshot!(rows(&all, &chosen_all, NOW).join("\n"), @r"
        ID                                   TYPE        SIZE   LAST USED      MADE IN   IN USE   WHAT
        /var/cache/uv                        mount      310MB   1 minute ago
        8d3b0e1f52a9                         layer      127MB   1 minute ago     2.40s   yes      [app 2/5] RUN uv sync
        docker.io/library/python:3.12-slim   base      45.0MB   1 minute ago                      linux/amd64
        1d3b0e1f52a9                         layer     12.0MB   1 week ago       1m10s            [docs 3/3] RUN make
        5f4dcc3b5aa7                         context   41.0kB   1 minute ago                      digests of files
        ");
        insta::assert_snapshot!(document(&all, &chosen_all[0]).to_string(), @r#"{"id":"/var/cache/uv","type":"mount","name":"/var/cache/uv","stage":null,"platform":null,"size_bytes":310000000,"shared_bytes":0,"last_used_unix":1772452710,"made_in_ms":null,"in_use":false}"#);
        let old = chosen(&mut all, &CacheFilter::default(), NOW - 86_400);
        assert_eq!(old.len(), 1);
    }
}

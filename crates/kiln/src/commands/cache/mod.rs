//! `kiln cache`: what the store holds, and making it less.

mod info;
mod list;
mod prune;

use clap::{Subcommand, ValueEnum};

use crate::config::Config;
use crate::failure::Failure;

/// Show what the store holds, and make it less
///
/// Images that have names hold what they need. All else is cache: it only saves time, and nothing breaks
/// without it.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  kiln cache info                             how much there is, and what a prune would free
  kiln cache ls --filter type=mount           directories of RUN --mount=type=cache
  kiln cache prune --keep-storage 10GB        until the store holds no more"
)]
pub(crate) struct Cache {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    Info(info::Info),
    Ls(list::List),
    Prune(prune::Prune),
    Rm(prune::Remove),
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// JSON
    Json,
}

impl Cache {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.command {
            CacheCommand::Info(info) => info.run(config),
            CacheCommand::Ls(list) => list.run(config),
            CacheCommand::Prune(prune) => prune.run(config),
            CacheCommand::Rm(remove) => remove.run(config),
        }
    }
}

#[cfg(test)]
mod samples {
    //! A small store.

    use std::time::Duration;

    use kiln_core::digest::BlobDigest;
    use kiln_store::inventory::{Holding, Inventory, Kind};

    /// Noon of a day.
    pub(super) const NOW: u64 = 1_772_452_800;

    fn holding(kind: Kind, (id, name): (&str, &str), own_bytes: u64, age: u64) -> Holding {
        Holding {
            kind,
            id: id.to_owned(),
            name: name.to_owned(),
            stage: None,
            own_bytes,
            used_unix: NOW - age,
            made_in: None,
            is_held: false,
            platform: None,
            blobs: Vec::new(),
        }
    }

    /// One of each kind, and an image.
    pub(super) fn inventory() -> Inventory {
        let [base, layer, loose] =
            ["base", "layer", "loose"].map(|text| BlobDigest::of(text.as_bytes()));
        let id = "8d3b0e1f52a94c77b60d1f2e3a4b5c6d";
        Inventory {
            holdings: vec![
                Holding {
                    stage: Some("app".to_owned()),
                    made_in: Some(Duration::from_millis(2400)),
                    is_held: true,
                    blobs: vec![layer],
                    ..holding(Kind::Layer, (id, "[app 2/5] RUN uv sync"), 96_000_000, 90)
                },
                Holding {
                    stage: Some("docs".to_owned()),
                    made_in: Some(Duration::from_secs(70)),
                    ..holding(
                        Kind::Layer,
                        (&id.replace('8', "1"), "[docs 3/3] RUN make"),
                        12_000_000,
                        864_000,
                    )
                },
                Holding {
                    platform: Some("linux/amd64".to_owned()),
                    blobs: vec![base],
                    ..holding(
                        Kind::Base,
                        (
                            "docker.io/library/python:3.12-slim",
                            "docker.io/library/python:3.12-slim for linux/amd64",
                        ),
                        0,
                        90,
                    )
                },
                holding(Kind::CacheMount, ("/var/cache/uv", "/var/cache/uv"), 310_000_000, 90),
                holding(Kind::Context, ("5f4dcc3b5aa7", "digests of files"), 41_000, 90),
            ],
            blobs: [(base, 45_000_000), (layer, 31_000_000), (loose, 7_000_000)].into(),
            held: [base, layer].into(),
            rest_bytes: 900_000,
        }
    }
}

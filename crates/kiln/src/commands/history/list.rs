//! `kiln history ls` and `kiln history rm`

use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use kiln_core::event::Outcome;
use kiln_core::report::{BuildId, BuildReport};

use super::super::explain::document::document;
use super::named;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{age, count, duration, size};
use crate::render::table::{Align, table};
use crate::session::Session;

/// All builds that are kept.
const ALL: usize = 1_000_000;
/// Digits of a commit that are shown.
const COMMIT_DIGITS: usize = 8;

/// List builds, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln history ls -n 5
  kiln history ls --filter services/api       builds of one project
  kiln history ls --all --format json > builds.jsonl")]
pub(super) struct List {
    /// So many
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "20", conflicts_with = "all")]
    limit: usize,
    /// All that are kept
    #[arg(short, long)]
    all: bool,
    /// Of this Dockerfile or context alone: a part of its path
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How it is written; JSON is one document per line, without steps
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print only the names of the builds
    #[arg(short, long)]
    quiet: bool,
}

/// Forget builds
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln history rm b41 b42
  kiln history rm --all")]
pub(super) struct Remove {
    /// Builds: b42, @, @1
    #[arg(required_unless_present = "all", value_name = "BUILD")]
    builds: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "builds")]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// JSON lines
    Json,
}

impl List {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let mut builds = session.last_builds(ALL)?;
        if let Some(text) = &self.filter {
            let has = |path: &str| path.contains(text.as_str());
            builds.retain(|build| has(&build.place.dockerfile) || has(&build.place.context));
        }
        builds.truncate(if self.all { ALL } else { self.limit });
        let lines = match (self.quiet, self.format) {
            (true, _) => builds.iter().map(|build| format!("b{}", build.id)).collect(),
            (false, Format::Table) => rows(&builds, Timestamp::now()),
            (false, Format::Json) => builds.iter().map(json_line).collect(),
        };
        render::print_lines(&lines);
        Ok(())
    }
}

impl Remove {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let ids: Vec<BuildId> = if self.all {
            session.last_builds(ALL)?.iter().map(|build| build.id).collect()
        } else {
            let ids = self.builds.iter().map(|word| named(&session, word).map(|build| build.id));
            ids.collect::<Result<_, _>>()?
        };
        let removed = session.forget_builds(&ids)?;
        render::print_lines(&[format!("forgot {}", count(removed, "build"))]);
        Ok(())
    }
}

fn json_line(build: &BuildReport) -> String {
    let mut document = document(build, &[], &[]);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("steps");
    }
    document.to_string()
}

fn rows(builds: &[BuildReport], now: Timestamp) -> Vec<String> {
    let header = [
        ("BUILD", Align::Left),
        ("WHEN", Align::Left),
        ("TOOK", Align::Right),
        ("RESULT", Align::Left),
        ("CACHED", Align::Right),
        ("SIZE", Align::Right),
        ("COMMIT", Align::Left),
        ("TARGET", Align::Left),
        ("DOCKERFILE", Align::Left),
    ];
    table(&header, &builds.iter().map(|build| row(build, now)).collect::<Vec<_>>())
}

fn row(build: &BuildReport, now: Timestamp) -> Vec<String> {
    let ago = now.as_second() - (build.started_unix_ms / 1000) as i64;
    let of_images = |number: fn(&kiln_core::report::ImageReport) -> usize| -> usize {
        build.images.iter().map(number).sum()
    };
    let (steps, cached) = (of_images(|image| image.steps), of_images(|image| image.cached));
    let bytes: u64 = build.images.iter().map(|image| image.size_bytes).sum();
    let commit = build.commit.as_ref().map(|commit| {
        let short: String = commit.id.chars().take(COMMIT_DIGITS).collect();
        if commit.is_dirty() == Some(true) { short + "-dirty" } else { short }
    });
    vec![
        format!("b{}", build.id),
        age(ago),
        duration(Duration::from_millis(build.duration_ms)),
        result(&build.outcome).to_owned(),
        (cached * 100).checked_div(steps).map(|rate| format!("{rate}%")).unwrap_or_default(),
        if bytes > 0 { size(bytes) } else { String::new() },
        commit.unwrap_or_default(),
        build.place.targets.join(","),
        build.place.dockerfile.clone(),
    ]
}

fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Failed(_) => "failed",
        Outcome::Canceled => "canceled",
        Outcome::Done | Outcome::Cached | Outcome::Unchanged => "ok",
    }
}

#[cfg(test)]
pub(super) mod samples {
    use kiln_core::report::{Changes, Commit, ImageReport, Place};

    use super::*;

    /// A build of ten steps, of which nine were cached.
    pub(in crate::commands::history) fn build() -> BuildReport {
        BuildReport {
            id: 42,
            started_unix_ms: 1_772_445_600_000,
            duration_ms: 2514,
            place: Place {
                context: "/home/me/app".to_owned(),
                dockerfile: "/home/me/app/Dockerfile".to_owned(),
                targets: vec!["production".to_owned()],
                platforms: vec!["linux/amd64".to_owned()],
                projects: Vec::new(),
            },
            command: ["kiln", "build", "--target", "production", "."].map(str::to_owned).to_vec(),
            commit: Some(Commit {
                id: "0a1b2c3d".repeat(5),
                branch: Some("main".to_owned()),
                changes: Some(Changes { tracked: 2, untracked: 1 }),
            }),
            images: vec![ImageReport {
                target: "production".to_owned(),
                platform: "linux/amd64".to_owned(),
                id: Some(kiln_core::digest::BlobDigest::of(b"config")),
                steps: 10,
                cached: 9,
                layers: 7,
                size_bytes: 182_000_000,
            }],
            outcome: Outcome::Done,
            steps: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_listed() {
        let now = "2026-03-02T12:00:00Z".parse().unwrap();
        let failed = BuildReport {
            id: 41,
            outcome: Outcome::Failed("no".to_owned()),
            images: Vec::new(),
            commit: None,
            ..samples::build()
        };
        let lines = rows(&[samples::build(), failed], now);
        insta::assert_snapshot!(lines.join("\n"), @r"
        BUILD   WHEN           TOOK   RESULT   CACHED    SIZE   COMMIT           TARGET       DOCKERFILE
        b42     2 hours ago   2.51s   ok          90%   182MB   0a1b2c3d-dirty   production   /home/me/app/Dockerfile
        b41     2 hours ago   2.51s   failed                                     production   /home/me/app/Dockerfile
        ");
        insta::assert_snapshot!(json_line(&samples::build()), @r#"{"build":"b42","started":"2026-03-02T10:00:00Z","duration_ms":2514,"context":"/home/me/app","dockerfile":"/home/me/app/Dockerfile","targets":["production"],"platforms":["linux/amd64"],"command":["kiln","build","--target","production","."],"commit":{"id":"0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d","branch":"main","changes":{"tracked":2,"untracked":1}},"images":[{"target":"production","platform":"linux/amd64","id":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","steps":10,"cached":9,"layers":7,"size_bytes":182000000}],"outcome":"done","error":null}"#);
    }
}

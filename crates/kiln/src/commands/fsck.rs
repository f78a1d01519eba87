//! `kiln fsck`

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::count;
use crate::session::{Repair, Session, StoreReport};

/// Verify the store: every blob against its digest, every layer and name against what it needs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln fsck
  kiln fsck --repair")]
pub(crate) struct Fsck {
    /// Drop what is not whole; it is built or fetched again when it is needed
    #[arg(long)]
    repair: bool,
}

impl Fsck {
    /// Runs the command; problems that remain are a failure.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let repair = if self.repair { Repair::Yes } else { Repair::No };
        let report = session.fsck(repair)?;
        render::print_lines(&lines(&report, repair));
        match (repair, report.problems.len()) {
            (_, 0) | (Repair::Yes, _) => Ok(()),
            (Repair::No, problems) => Err(Failure::Problems { problems }),
        }
    }
}

fn lines(report: &StoreReport, repair: Repair) -> Vec<String> {
    let word = match repair {
        Repair::No => "problem",
        Repair::Yes => "repaired",
    };
    let problems = report.problems.iter();
    let mut lines: Vec<String> = problems.map(|text| format!("{word}: {text}")).collect();
    let found = match (repair, report.problems.len()) {
        (_, 0) => "whole".to_owned(),
        (Repair::No, problems) => count(problems, "problem"),
        (Repair::Yes, problems) => format!("{} repaired", count(problems, "problem")),
    };
    lines.push(format!(
        "{}, {}, {}, {}: {found}",
        count(report.images, "image"),
        count(report.layers, "layer"),
        count(report.blobs, "blob"),
        count(report.records, "cache record"),
    ));
    if repair == Repair::No && !report.problems.is_empty() {
        lines.push("`kiln fsck --repair` drops what is not whole".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_it_says() {
        let mut report =
            StoreReport { blobs: 3, layers: 1, records: 0, images: 2, problems: Vec::new() };
        let whole = "2 images, 1 layer, 3 blobs, 0 cache records: whole";
        assert_eq!(lines(&report, Repair::No), [whole]);
        report.problems.push("blob sha256:ab is damaged".to_owned());
        insta::assert_snapshot!(lines(&report, Repair::No).join("\n"), @r"
        problem: blob sha256:ab is damaged
        2 images, 1 layer, 3 blobs, 0 cache records: 1 problem
        `kiln fsck --repair` drops what is not whole
        ");
        insta::assert_snapshot!(lines(&report, Repair::Yes).join("\n"), @r"
        repaired: blob sha256:ab is damaged
        2 images, 1 layer, 3 blobs, 0 cache records: 1 problem repaired
        ");
    }
}

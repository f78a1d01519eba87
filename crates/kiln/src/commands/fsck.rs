//! `kiln fsck`

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{count, size};
use crate::session::{Repair, Session, StoreReport};

/// Verify the store: every blob against its digest, every layer and name against what it needs
#[derive(Debug, clap::Args)]
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
        render::print_lines(&lines(&report));
        let problems = report.problems.iter().filter(|problem| !problem.repaired);
        match problems.count() {
            0 => Ok(()),
            problems => Err(Failure::Problems { problems }),
        }
    }
}

fn lines(report: &StoreReport) -> Vec<String> {
    let problem = |problem: &crate::session::StoreProblem| {
        if problem.repaired {
            format!("repaired: {}", problem.message)
        } else {
            format!("problem: {}", problem.message)
        }
    };
    let mut lines: Vec<String> = report.problems.iter().map(problem).collect();
    let repaired = report.problems.iter().filter(|problem| problem.repaired);
    let repaired = repaired.count();
    let remaining = report.problems.len() - repaired;
    lines.push(format!(
        "{}, {}, {} read: {}{}",
        count(report.blobs, "blob"),
        count(report.layers, "layer"),
        size(report.size_bytes),
        match remaining {
            0 => "whole".to_owned(),
            _ => count(remaining, "problem"),
        },
        match repaired {
            0 => String::new(),
            _ => format!(", {repaired} repaired"),
        },
    ));
    if remaining > 0 {
        lines.push("`kiln fsck --repair` drops what is not whole".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StoreProblem;

    #[test]
    fn a_report_counts_what_it_says() {
        let mut report =
            StoreReport { blobs: 3, layers: 1, size_bytes: 4_500_000, problems: Vec::new() };
        assert_eq!(lines(&report), ["3 blobs, 1 layer, 4.50MB read: whole"]);
        for repaired in [true, false] {
            let message = "blob sha256:ab… has other bytes".to_owned();
            report.problems.push(StoreProblem { message, repaired });
        }
        insta::assert_snapshot!(lines(&report).join("\n"), @r"
        repaired: blob sha256:ab… has other bytes
        problem: blob sha256:ab… has other bytes
        3 blobs, 1 layer, 4.50MB read: 1 problem, 1 repaired
        `kiln fsck --repair` drops what is not whole
        ");
    }
}

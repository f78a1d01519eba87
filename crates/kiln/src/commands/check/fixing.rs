//! `kiln check --fix` and `--diff`: safe rewrites, shown as unified diffs.

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_core::source::SourceFile;

use super::{Judging, ReportFormat};
use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// Shows what the rewrites would be; a failure if there are any.
pub(super) fn show(all: &[Judging], config: &Config) -> Result<(), Failure> {
    let mut problems = 0;
    let mut files = 0;
    for judging in all {
        let fixed = judging.fix(config)?;
        if fixed.rules.is_empty() {
            continue;
        }
        let style = render::stdout_style(config);
        render::print_lines(&render::lint::diff_lines(&judging.source_file, &fixed.text, style));
        problems += fixed.rules.len();
        files += 1;
    }
    render::note_lines(&render::lint::fixed_lines("Would fix", problems, files));
    if problems == 0 { Ok(()) } else { Err(Failure::Problems { problems }) }
}

/// Writes the rewrites; the files are judged as they are then. In formats for programs only the
/// result is written to standard output.
pub(super) fn write(
    all: &mut [Judging],
    format: ReportFormat,
    config: &Config,
) -> Result<(), Failure> {
    let mut problems = 0;
    let mut files = 0;
    for judging in all {
        let fixed = judging.fix(config)?;
        if fixed.rules.is_empty() {
            continue;
        }
        let name = judging.source_file.name().to_owned();
        if name == "<stdin>" {
            return Err(Failure::usage("--fix cannot rewrite standard input".to_owned())
                .with_help("`--diff` shows what it would write"));
        }
        if format == ReportFormat::Text {
            let style = render::stdout_style(config);
            let mut lines = render::lint::diff_lines(&judging.source_file, &fixed.text, style);
            lines.push(String::new());
            render::print_lines(&lines);
        }
        replace(Path::new(&name), fixed.text.as_bytes())?;
        judging.source_file = SourceFile::new(name, fixed.text);
        problems += fixed.rules.len();
        files += 1;
    }
    render::note_lines(&render::lint::fixed_lines("Fixed", problems, files));
    Ok(())
}

/// Replaces a file's content: who reads it sees the old or the new one, whole. What a symbolic
/// link names is replaced, not the link; permissions stay.
fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let real = std::fs::canonicalize(path).map_err(|error| Failure::file("find", path, error))?;
    let permissions =
        std::fs::metadata(&real).map_err(|error| Failure::file("read", path, error))?.permissions();
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let beside: PathBuf = real.with_file_name(format!(".{name}.kiln-{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.set_permissions(permissions)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, &real));
    written.map_err(|error| {
        // What is left of an attempt is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        Failure::file("write", path, error)
    })
}

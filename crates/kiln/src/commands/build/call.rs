//! `kiln build --call` and `--check`: what a Dockerfile says, without building it; and the
//! warnings that a build shows.

use std::str::FromStr;

use kiln_core::diagnostic::did_you_mean;
use kiln_core::dockerfile::parse;
use kiln_core::lint::{LintReport, outline, targets};
use kiln_engine::BuildRequest;

use super::Build;
use super::options::OptionError;
use crate::commands::check::{Judged, Judging, Known, ReportFormat};
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::Session;

/// What is asked for instead of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

impl Call {
    /// `--check`
    pub(super) const CHECK: Self = Self { method: Method::Check, format: ReportFormat::Text };
}

/// `--call`: `None` is `build`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallOption(pub(super) Option<Call>);

const METHODS: [&str; 4] = ["build", "check", "outline", "targets"];

impl FromStr for CallOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (method, format) = match text.split_once(',') {
            Some((method, format)) => (method, Some(format)),
            None => (text, None),
        };
        let format = match format {
            None | Some("format=text") => ReportFormat::Text,
            Some("format=json") => ReportFormat::Json,
            Some(other) => {
                return Err(OptionError::Wrong(format!(
                    "`{other}` is not possible; it is format=text or format=json"
                )));
            }
        };
        let method = match method {
            "build" | "" => return Ok(Self(None)),
            // buildx has both names.
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => {
                let near = did_you_mean(other, METHODS);
                let hint =
                    near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
                return Err(OptionError::Wrong(format!(
                    "`{other}` is no method{hint}; known are {}",
                    METHODS.join(", ")
                )));
            }
        };
        Ok(Self(Some(Call { method, format })))
    }
}

impl Build {
    /// Does what is asked for instead of a build.
    pub(in crate::commands) fn run_call(&self, call: Call, config: &Config) -> Result<(), Failure> {
        let (request, _) = self.request(config)?;
        let judging = Judging::of_build(&request);
        match call.method {
            Method::Check => {
                let judged = [judging.judge_fully(config)?];
                let style = render::stdout_style(config);
                render::print_lines(&render::lint::report_lines(&judged, call.format, style));
                // As with buildx; kiln's own rules are shown, and do not fail a check that
                // passes there.
                Judged::outcome(&judged, LintReport::buildkit_count)
            }
            Method::Outline => {
                let (file, errors) = parse(&request.dockerfile);
                Judged::check_errors(&request.dockerfile, errors)?;
                let named = request.plan.targets.first().map(String::as_str);
                let found = judging.with_request(Known::IfThere(config), |lint_request| {
                    outline(&request.dockerfile, &file, named, lint_request)
                });
                let found = found.ok_or_else(|| {
                    let target = named.unwrap_or_default();
                    Failure::input("no-stage", format!("there is no stage `{target}`"))
                        .with_help("`--call=targets` lists them")
                })?;
                render::print_lines(&render::lint::outline_lines(&found, call.format));
                Ok(())
            }
            Method::Targets => {
                let (file, errors) = parse(&request.dockerfile);
                Judged::check_errors(&request.dockerfile, errors)?;
                let found = targets(&request.dockerfile, &file);
                render::print_lines(&render::lint::targets_lines(&found, call.format));
                Ok(())
            }
        }
    }
}

/// `error=true`: what was found ends the build before it begins. Errors are left to the build.
pub(in crate::commands) fn refuse_violations(
    request: &BuildRequest,
    config: &Config,
) -> Result<(), Failure> {
    // Most files ask for nothing, and most builds are to be over in milliseconds.
    let asks = |line: &str| {
        let line = line.trim_start();
        (line.starts_with('#') || line.starts_with("//")) && line.to_lowercase().contains("check")
    };
    let is_asked = request.dockerfile.text().lines().any(asks);
    if !is_asked && !request.plan.build_args.contains_key("BUILDKIT_DOCKERFILE_CHECK") {
        return Ok(());
    }
    let judged = match Judging::of_what_is_built(request).judge(Known::IfThere(config)) {
        Ok(judged) => judged,
        // Of a target that is not there the build itself knows more to say.
        Err(Failure::Invalid { diagnostics, .. }) if diagnostics[0].code == "unknown-target" => {
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let violations = judged.report.violations();
    if !judged.errors.is_empty() || violations.is_empty() {
        return Ok(());
    }
    let style = render::stderr_style(config);
    let judged = [judged];
    let mut lines = render::lint::report_lines(&judged, ReportFormat::Text, style);
    lines.push(String::new());
    render::note_lines(&lines);
    let rules = violations.join(", ");
    Err(Failure::input("lint", format!("lint violation found for rules: {rules}")))
}

/// The warnings about what was built, as they are shown after it.
pub(in crate::commands) fn warnings_of_build(
    request: &BuildRequest,
    session: &Session,
) -> Result<Vec<String>, Failure> {
    let judged = Judging::of_what_is_built(request).judge(Known::Open(session))?;
    Ok(render::lint::summary_lines(&judged.source_file, &judged.report))
}

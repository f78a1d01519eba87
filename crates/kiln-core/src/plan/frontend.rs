//! Which language a file is in: `# syntax=`, and build arguments that speak of the builder.
//!
//! kiln reads Dockerfiles itself, in the newest version of the language. Names of Docker's own frontend images are accepted,
//! whatever their tag; another one may be for another language, so that it is refused.

use super::PlanRequest;
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Dockerfile, parse_bool};
use crate::source::Span;

/// Names of Docker's frontend, without tag and digest. The last one is BuildKit's built-in frontend.
const KNOWN: [&str; 3] = ["docker/dockerfile", "docker/dockerfile-upstream", "dockerfile.v0"];

/// Refuses what kiln can't be.
pub(super) fn check(dockerfile: &Dockerfile, request: &PlanRequest) -> Result<(), Diagnostic> {
    let removed = request.build_args.get("BUILDKIT_DISABLE_FILEOP").map(|text| parse_bool(text));
    if removed == Some(Some(true)) {
        let message =
            "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11";
        return Err(without_place("removed-build-arg", message.to_owned()));
    }
    let argument = request.build_args.get("BUILDKIT_SYNTAX").filter(|text| !text.is_empty());
    let directive = dockerfile.directives.syntax.as_ref();
    // The directive's line may have arguments after the name.
    let name = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    let (name, span) = match (argument, directive) {
        (Some(text), _) => (name(text), None),
        (None, Some(directive)) => (name(&directive.value), Some(directive.span)),
        (None, None) => return Ok(()),
    };
    if is_known(&name) {
        return Ok(());
    }
    let message = format!("frontend `{name}` is not supported: kiln reads Dockerfiles itself");
    let mut error = without_place("unknown-frontend", message);
    error.span = span;
    Err(error.with_help(
        "`--build-arg BUILDKIT_SYNTAX=dockerfile.v0` takes the file as a Dockerfile all the same",
    ))
}

fn is_known(name: &str) -> bool {
    let name = name.split('@').next().unwrap_or(name);
    let (repository, _) =
        name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((name, ""));
    let repository = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|registry| repository.strip_prefix(registry))
        .unwrap_or(repository);
    KNOWN.contains(&repository)
}

fn without_place(code: &'static str, message: String) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(code, Span::default(), message);
    diagnostic.span = None;
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_frontends_are_known() {
        for known in [
            "docker/dockerfile",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile:1@sha256:00",
            "docker/dockerfile-upstream:master",
            "dockerfile.v0",
        ] {
            assert!(is_known(known), "{known}");
        }
        for other in
            ["tonistiigi/runmount", "docker/dockerfile2", "localhost:5000/docker/dockerfile", ""]
        {
            assert!(!is_known(other), "{other}");
        }
    }
}

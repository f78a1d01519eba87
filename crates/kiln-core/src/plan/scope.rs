//! Variables: the environment of a stage, and the arguments that exist before any stage.

use std::collections::BTreeMap;

use crate::oci::Platform;

/// Variables in the order of their last definition, as RUN sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Defines a variable; an older definition of the name goes away.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Forgets a variable.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The value of a variable.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// All of them.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.0
    }
}

/// The platform arguments that every Dockerfile has, in BuildKit's order.
pub(super) fn platform_args(build: &Platform, target: &Platform, stage: &str) -> Environment {
    let mut args = Environment::default();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    args.set("BUILDPLATFORM", &build.to_string());
    args.set("BUILDOS", &build.os);
    args.set("BUILDOSVERSION", build.os_version.as_deref().unwrap_or_default());
    args.set("BUILDARCH", &build.architecture);
    args.set("BUILDVARIANT", &variant(build));
    args.set("TARGETPLATFORM", &target.to_string());
    args.set("TARGETOS", &target.os);
    args.set("TARGETOSVERSION", target.os_version.as_deref().unwrap_or_default());
    args.set("TARGETARCH", &target.architecture);
    args.set("TARGETVARIANT", &variant(target));
    args.set("TARGETSTAGE", if stage.is_empty() { "default" } else { stage });
    args
}

/// An ARG of a stage, for the history line of RUN.
#[derive(Clone, Debug)]
pub(super) struct DeclaredArg {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// `HTTP_PROXY` and its like among the build arguments: RUN sees them undeclared, in both cases.
pub(super) fn proxy_environment(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    let mut found = Vec::new();
    for name in names {
        let given = build_args.iter().rfind(|(given, _)| given.eq_ignore_ascii_case(name));
        if let Some((_, value)) = given {
            found.push((name.to_owned(), value.clone()));
            found.push((name.to_lowercase(), value.clone()));
        }
    }
    found
}

/// Build arguments that no ARG of the file asks for, and that have no meaning of their own.
pub(super) fn unused_build_args<'a>(
    build_args: &'a BTreeMap<String, String>,
    declared: &std::collections::BTreeSet<String>,
) -> Vec<&'a str> {
    let known = |name: &str| {
        let upper = name.to_uppercase();
        declared.contains(name)
            || upper.ends_with("_PROXY")
            || upper.starts_with("BUILDKIT_")
            || upper == "SOURCE_DATE_EPOCH"
            || ["TARGET", "BUILD"].iter().any(|prefix| upper.starts_with(prefix))
    };
    build_args.keys().map(String::as_str).filter(|name| !known(name)).collect()
}

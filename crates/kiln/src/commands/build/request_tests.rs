//! What a command line and an environment become.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    build: Build,
}

/// A context with a Dockerfile, and a request from `options` for it.
fn request(
    options: &str,
    variables: &[(&str, &str)],
) -> Result<(BuildRequest, Vec<String>), String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    std::fs::write(directory.path().join("token"), "t0ken").unwrap();
    let path = directory.path().to_str().unwrap();
    let options = options.replace("DIR", path);
    let words = ["build", path].into_iter().chain(options.split_whitespace());
    let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let config = Config { variables: variables.iter().map(pair).collect(), ..Config::default() };
    let request = command.build.request(&config);
    request.map_err(|failure| {
        let lines =
            crate::render::diagnostic::failure_lines(&failure, crate::render::style::Style::Plain);
        lines.join("\n").replace(path, "DIR")
    })
}

fn error(options: &str) -> String {
    match request(options, &[]) {
        Ok(_) => "no error".to_owned(),
        Err(message) => message,
    }
}

#[test]
fn build_args_come_from_the_line_then_the_environment() {
    let variables = [("A", "1"), ("B", "2"), ("SOURCE_DATE_EPOCH", "1600000000")];
    let (request, _) =
        request("--build-arg A --build-arg B=x=y --build-arg UNSET", &variables).unwrap();
    let args: Vec<_> = request.plan.build_args.iter().collect();
    assert_eq!(
        format!("{args:?}"),
        r#"[("A", "1"), ("B", "x=y"), ("SOURCE_DATE_EPOCH", "1600000000")]"#
    );
}

#[test]
fn the_epoch_of_the_line_wins() {
    let variables = [("SOURCE_DATE_EPOCH", "5")];
    let (request, _) = request("--build-arg SOURCE_DATE_EPOCH=7", &variables).unwrap();
    assert_eq!(request.plan.build_args["SOURCE_DATE_EPOCH"], "7");
}

#[test]
fn targets_and_platforms_are_lists_without_repetition() {
    let (request, _) = request(
        "--target a,b --target c --target a --platform linux/arm64,linux/amd64 --platform arm64 -t x",
        &[],
    )
    .unwrap();
    assert_eq!(request.plan.targets, ["a", "b", "c"]);
    let platforms: Vec<String> = request.plan.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64"]);
    assert_eq!(request.tags[0].repository, "library/x");
}

#[test]
fn several_targets_do_not_share_a_tag() {
    insta::assert_snapshot!(error("--target a,b -t app:1.0"), @r"
    error: `-t app:1.0` names one image, and 2 targets are built
     help: `-t app` names them app:a and so on
    ");
    insta::assert_snapshot!(error("--target a,b --iidfile x"), @r"
    error: `--iidfile` holds one image id, and several targets are built
     help: `--metadata-file` holds them all
    ");
    assert!(request("--target a -t app:1.0", &[]).is_ok());
}

#[test]
fn secrets_are_found_and_missing_ones_named() {
    let variables = [("TOKEN", "v"), ("bare", "w")];
    let (found, warnings) = request(
        "--secret id=a,src=DIR/token --secret id=b,env=TOKEN --secret id=bare --secret id=c,env=UNSET",
        &variables,
    )
    .unwrap();
    assert_eq!(found.secrets.keys().collect::<Vec<_>>(), ["a", "b", "bare"]);
    assert_eq!(warnings, ["secret `c`: the variable UNSET is not set"]);
    assert!(!format!("{found:?}").contains("t0ken"));
    insta::assert_snapshot!(error("--secret id=a,src=DIR/none"), @"error[no-file]: secret `a`: open DIR/none: No such file or directory (os error 2)");
}

#[test]
fn named_contexts_are_normalised() {
    let (request, _) = request(
        "--build-context uv=DIR --build-context docker.io/library/python:latest=docker-image://alpine",
        &[],
    )
    .unwrap();
    assert_eq!(request.named_contexts.keys().collect::<Vec<_>>(), ["python", "uv"]);
    assert_eq!(request.plan.named_contexts["uv"], ContextKind::Directory);
    insta::assert_snapshot!(error("--build-context uv=DIR/none"), @"error[context]: the build context `uv` cannot be opened: DIR/none: No such file or directory (os error 2)");
}

#[test]
fn the_hosts_network_by_name_is_allowed_by_naming_it() {
    let (request, _) = request("--network host", &[]).unwrap();
    assert!(request.plan.entitlements.contains(&Entitlement::NetworkHost));
}

#[test]
fn the_hosts_certificates_are_off_by_default() {
    assert_eq!(request("", &[]).unwrap().0.host_ca, None);
    assert_eq!(request("", &[("KILN_HOST_CA", "0")]).unwrap().0.host_ca, None);
    let (named, _) = request("--host-ca=DIR/token", &[]).unwrap();
    assert!(named.host_ca.unwrap().ends_with("token"));
    assert!(error("--host-ca=DIR/none").contains("the CA bundle: open DIR/none"));
}

#[test]
fn outputs_are_checked_against_the_disk() {
    insta::assert_snapshot!(error("-o type=oci,dest=DIR"), @r"
    error: `dest=DIR` is a directory, not a file
     help: `tar=false` writes an OCI layout into it
    ");
    insta::assert_snapshot!(error("-o DIR/token"), @"error: `dest=DIR/token` is a file, not a directory");
    assert!(error("-o - -o type=oci").contains("only one output"));
}

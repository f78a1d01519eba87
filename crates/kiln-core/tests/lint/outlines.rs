//! Outlines and targets.

use kiln_core::dockerfile::parse;
use kiln_core::lint::{outline, targets};
use kiln_core::source::SourceFile;

use super::support::Setting;

const TEXT: &str = "# VERSION is what is built\nARG VERSION=1\nARG BASE=alpine:$VERSION\nARG UNUSED=x\n\
    # build compiles\nFROM $BASE AS Build\n# FLAVOR of it\nARG FLAVOR\nARG VERSION\n\
    RUN --mount=type=secret,id=npm,required --mount=type=secret,target=/run/key \
    --mount=type=ssh --mount=type=cache,target=/c true\n\
    FROM --platform=$BUILDPLATFORM scratch AS other\nARG OTHER=2\n\
    FROM scratch\nCOPY --from=build / /\n";

fn outline_of(setting: &Setting, target: Option<&str>) -> Option<String> {
    let source = SourceFile::new("Dockerfile", TEXT);
    let (file, _) = parse(&source);
    let found = setting.request(|request| outline(&source, &file, target, request))?;
    let args =
        found.args.iter().map(|arg| format!("{}={} ({})", arg.name, arg.value, arg.description));
    let needs = found.secrets.iter().chain(&found.ssh);
    let needs = needs.map(|need| format!("{} {}", need.name, need.required));
    let mut lines = vec![format!("{:?} ({})", found.name, found.description)];
    lines.extend(args.chain(needs).chain(found.caches.iter().cloned()));
    Some(lines.join("\n"))
}

#[test]
fn outlines_hold_what_a_target_uses() {
    let setting = Setting::with_build_arg("FLAVOR", "sweet");
    insta::assert_snapshot!(outline_of(&setting, None).unwrap(), @r#"
    None ()
    VERSION=1 (is what is built)
    BASE=alpine:1 ()
    FLAVOR=sweet (of it)
    npm true
    key false
    default false
    /c
    "#);
    insta::assert_snapshot!(outline_of(&setting, Some("BUILD")).unwrap().lines().next().unwrap(), @r#"Some("build") (compiles)"#);
    insta::assert_snapshot!(outline_of(&setting, Some("other")).unwrap(), @r#"
    Some("other") ()
    OTHER=2 ()
    "#);
    assert_eq!(outline_of(&setting, Some("nope")), None);
}

#[test]
fn targets_are_all_stages() {
    let source = SourceFile::new("Dockerfile", TEXT);
    let (file, _) = parse(&source);
    let found = targets(&source, &file);
    let lines: Vec<String> = found
        .iter()
        .map(|it| {
            format!(
                "{:?} {} {} {:?} {:?}",
                it.name, it.default, it.base, it.platform, it.description
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    Some("build") false $BASE None "compiles"
    Some("other") false scratch Some("$BUILDPLATFORM") ""
    None true scratch None ""
    "#);
}

//! What the options take, and what they say to what they do not take.

use insta::assert_snapshot;

use super::*;

fn error<T: FromStr<Err = OptionError>>(text: &str) -> String {
    match text.parse::<T>() {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn errors<T: FromStr<Err = OptionError>>(texts: &[&str]) -> String {
    let lines = texts.iter().map(|text| format!("{text}: {}", error::<T>(text)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn secrets() {
    let place = |text: &str| text.parse::<SecretOption>().unwrap().place;
    assert_eq!(place("id=a,src=f"), SecretPlace::File("f".into()));
    assert_eq!(place("type=file,id=a,source=f"), SecretPlace::File("f".into()));
    assert_eq!(place("id=a,env=V"), SecretPlace::Variable("V".into()));
    assert_eq!(place("id=a,type=env,src=V"), SecretPlace::Variable("V".into()));
    assert_eq!(place("id=a"), SecretPlace::Either);
    assert_eq!(place("id=a,\"src=x,y\""), SecretPlace::File("x,y".into()));
    assert_snapshot!(errors::<SecretOption>(&["", "src=f", "id=a,scr=f", "id=a,type=vault", "id=a,src=f,env=V", "id=a,\"src"]), @r#"
    : `` must be a key=value pair
    src=f: `id` is missing
    id=a,scr=f: unknown key `scr`, did you mean `src`?; known are id, src, source, env, type
    id=a,type=vault: type `vault` is not supported; kiln knows file and env
    id=a,src=f,env=V: `src` and `env` exclude each other
    id=a,"src: the quotes in `id=a,"src` do not match
    "#);
}

#[test]
fn build_contexts() {
    let place = |text: &str| format!("{:?}", text.parse::<ContextOption>().unwrap().place);
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(place("a=dir"), r#"Directory("dir")"#);
    assert_eq!(
        place("python:3.12-slim=oci-layout:///x/y"),
        r#"Layout { path: "/x/y", reference: None }"#
    );
    assert_eq!(place("a=oci-layout://x/y:v1"), r#"Layout { path: "x/y", reference: Some("v1") }"#);
    assert_eq!(
        place(&format!("a=oci-layout://x/y:v1@{digest}")),
        format!(r#"Layout {{ path: "x/y", reference: Some("{digest}") }}"#)
    );
    assert!(place("a=docker-image://alpine:3").starts_with("Image(Reference"));
    assert_snapshot!(errors::<ContextOption>(&[
        "a", "=x", "a=", "a=https://example.org/x.git", "a=target:b", "a=docker-image://A B", "a=oci-layout://",
    ]), @r"
    a: expected NAME=VALUE
    =x: expected NAME=VALUE, and neither may be empty
    a=: expected NAME=VALUE, and neither may be empty
    a=https://example.org/x.git: no error
    a=target:b: `target:` contexts are of bake files only
    a=docker-image://A B: invalid reference format: `A B`: repository name must be lowercase
    a=oci-layout://: there is no directory after `oci-layout://`
    ");
}

#[test]
fn tags() {
    let has_tag = |text: &str| text.parse::<TagOption>().unwrap().has_tag();
    assert!(has_tag("a:1"));
    assert!(!has_tag("localhost:5000/a"));
    assert!(has_tag("localhost:5000/a:1"));
    let digest = format!("a@sha256:{}", "0".repeat(64));
    assert_eq!(error::<TagOption>(&digest), "a tag cannot hold a digest");
}

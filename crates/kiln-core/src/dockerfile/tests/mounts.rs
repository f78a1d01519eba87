//! `RUN --mount`.

use insta::assert_snapshot;

use crate::dockerfile::{ValueError, parse_mount, parse_mount_with};

fn mount(text: &str) -> String {
    match parse_mount(text) {
        Ok(mount) => format!("{mount:?}"),
        Err(ValueError { message, help }) => match help {
            Some(help) => format!("{message} ({help})"),
            None => message,
        },
    }
}

#[test]
fn kinds_and_defaults() {
    assert_snapshot!(mount("target=/x"), @r#"Mount { kind: Bind, from: None, source: None, target: Some("/x"), id: None, sharing: None, read_only: true, required: false, size_bytes: None, mode: None, uid: None, gid: None, env: None }"#);
    assert_snapshot!(mount("type=bind,from=a,src=b,dst=/c,rw"), @r#"Mount { kind: Bind, from: Some("a"), source: Some("b"), target: Some("/c"), id: None, sharing: None, read_only: false, required: false, size_bytes: None, mode: None, uid: None, gid: None, env: None }"#);
    assert_snapshot!(mount("TYPE=Cache,id=x,destination=/c,sharing=Locked,mode=0755,uid=1000,gid=0,ro"), @r#"Mount { kind: Cache, from: None, source: None, target: Some("/c"), id: Some("x"), sharing: Some(Locked), read_only: true, required: false, size_bytes: None, mode: Some(493), uid: Some(1000), gid: Some(0), env: None }"#);
    assert_snapshot!(mount("type=tmpfs,target=/t,size=64m"), @r#"Mount { kind: Tmpfs, from: None, source: None, target: Some("/t"), id: None, sharing: None, read_only: false, required: false, size_bytes: Some(67108864), mode: None, uid: None, gid: None, env: None }"#);
    assert_snapshot!(mount("type=secret,id=s,required,env=,mode=440"), @r#"Mount { kind: Secret, from: None, source: None, target: None, id: Some("s"), sharing: None, read_only: true, required: true, size_bytes: None, mode: Some(288), uid: None, gid: None, env: Some("") }"#);
    assert_snapshot!(mount("type=ssh,required=true,readwrite=true,target="), @"Mount { kind: Ssh, from: None, source: None, target: None, id: None, sharing: None, read_only: false, required: true, size_bytes: None, mode: None, uid: None, gid: None, env: None }");
    assert_snapshot!(mount("\"source=a,\"\"b\",target=/x,readonly=F"), @r#"Mount { kind: Bind, from: None, source: Some("a,\"b"), target: Some("/x"), id: None, sharing: None, read_only: false, required: false, size_bytes: None, mode: None, uid: None, gid: None, env: None }"#);
}

#[test]
fn errors() {
    let all = [
        "type=frob,target=/x",
        "type=cahce,target=/x",
        "type=cache,sharing=share",
        "taget=/x",
        "/x",
        "readonyl",
        "readonly=maybe",
        "required",
        "type=cache,size=1m",
        "size=1m,type=tmpfs",
        "type=tmpfs,size=big",
        "type=tmpfs,mode=700",
        "uid=1",
        "type=cache,mode=888",
        "type=cache,uid=+1",
        "type=secret",
        "type=secret,id=a,from=b",
        "type=secret,id=a,src=b",
        "type=secret,id=a,sharing=shared",
        "sharing=shared",
        "a\"b",
        "\"a",
        "\"a\"b",
        "",
    ];
    let all: Vec<String> = all.iter().map(|text| format!("{text}: {}", mount(text))).collect();
    assert_snapshot!(all.join("\n"), @r#"
        type=frob,target=/x: unsupported mount type "frob": expected bind, cache, tmpfs, secret, ssh
        type=cahce,target=/x: unsupported mount type "cahce": expected bind, cache, tmpfs, secret, ssh (did you mean `cache`?)
        type=cache,sharing=share: unsupported sharing value "share": expected shared, private, locked (did you mean `shared`?)
        taget=/x: unexpected key 'taget' in 'taget=/x' (did you mean `target`?)
        /x: invalid field '/x' must be a key=value pair
        readonyl: invalid field 'readonyl' must be a key=value pair (did you mean `readonly`?)
        readonly=maybe: invalid value for readonly: maybe
        required: unexpected key 'required' for mount type 'bind' (`required` needs type=secret or type=ssh written before it)
        type=cache,size=1m: unexpected key 'size' for mount type 'cache'
        size=1m,type=tmpfs: unexpected key 'size' for mount type 'bind' (`size` needs type=tmpfs written before it)
        type=tmpfs,size=big: invalid value for size: big
        type=tmpfs,mode=700: mode not allowed for "tmpfs" type mounts
        uid=1: uid not allowed for "bind" type mounts
        type=cache,mode=888: invalid value 888 for mode
        type=cache,uid=+1: invalid value +1 for uid
        type=secret: invalid secret mount. one of source, target required
        type=secret,id=a,from=b: secret mount should not have a from
        type=secret,id=a,src=b: both source and id can't be set
        type=secret,id=a,sharing=shared: secret mount should not define sharing
        sharing=shared: invalid cache sharing set for bind mount
        a"b: failed to parse csv mounts: bare " in non-quoted field
        "a: failed to parse csv mounts: extraneous or missing " in quoted field
        "a"b: failed to parse csv mounts: extraneous or missing " in quoted field
        : failed to parse csv mounts: the value is empty
        "#);
}

#[test]
fn values_are_expanded_after_the_cut() {
    let expanded = parse_mount_with("type=$T,id=$I,target=/x", &mut |value| match value {
        "$T" => Ok("cache".to_owned()),
        "$I" => Ok("a,b".to_owned()),
        other => Ok(other.to_owned()),
    });
    assert_eq!(expanded.map(|mount| mount.id), Ok(Some("a,b".to_owned())));
    let failed = parse_mount_with("id=$X", &mut |_| Err(ValueError::new("no X")));
    assert_eq!(failed, Err(ValueError::new("no X")));
}

//! Commands that talk with registries: `push`, `pull`, `copy`, `index`, `login`, `logout`, `lock`.

use std::fs::File;

use insta::assert_snapshot;
use kiln_testkit::filters::unaligned;
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::{Login, Registry};

use crate::fixture::{Project, run};

/// A registry with an image of one file.
fn registry() -> Registry {
    let registry = Registry::start();
    TestImage::new().layer("file f 0644 one").push(&registry, "app:1");
    registry
}

/// A project whose image has a name of the registry.
fn tagged(registry: &Registry) -> Project {
    let project = Project::new("FROM scratch\nCOPY file /\n");
    project.write("app/file", "one\n");
    project.build(&["-t", &registry.reference("shop:1")]);
    project
}

#[test]
fn push_output() {
    let registry = registry();
    let project = tagged(&registry);
    assert_snapshot!(project.shown_with(&registry, &["push", "REG/shop:1"]), @r"
    status: 0
    --- stdout
    REG/shop:1@sha256:[digest]
    --- stderr
    #1 push REG/shop:1
    #1 sha256:[digest] [size] [time] done
    #1 sha256:[digest] [size] [time] done
    #1 DONE [time]
    ");
    assert_snapshot!(project.shown_with(&registry, &["push", "-q", "REG/shop:1"]), @r"
    status: 0
    --- stdout
    REG/shop:1@sha256:[digest]
    --- stderr
    ");
}

#[test]
fn push_error() {
    let registry = registry();
    let project = tagged(&registry);
    assert_snapshot!(project.shown_with(&registry, &["push", "REG/shop:2"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-image]: no image `REG/shop:2` in the store
     help: did you mean `REG/shop:1`?
    ");
    registry.require(Login::Basic { user: "me".to_owned(), password: "right".to_owned() });
    assert_snapshot!(project.shown_with(&registry, &["push", "REG/shop:1"]), @r"
    status: 1
    --- stdout
    --- stderr
    #1 push REG/shop:1
    #1 ERROR: `REG` refuses access to `REG/shop@sha256:[digest]` to the anonymous
    error[push-failed]: `REG` refuses access to `REG/shop@sha256:[digest]` to the anonymous
     help: check the name; if the repository is private, run `kiln login REG`
    ");
}

#[test]
fn pull_output() {
    let registry = registry();
    assert_snapshot!(Project::new("").shown_with(&registry, &["pull", "REG/app:1"]), @r"
    status: 0
    --- stdout
    REG/app:1@sha256:[digest]
    --- stderr
    #1 pull REG/app:1
    #1 sha256:[digest] [size] [time] done
    #1 sha256:[digest] [size] [time] done
    #1 DONE [time]
    ");
}

#[test]
fn pull_error() {
    let registry = registry();
    let project = Project::new("");
    assert_snapshot!(project.shown_with(&registry, &["pull", "REG/app:2"]), @r"
    status: 1
    --- stdout
    --- stderr
    #1 pull REG/app:2
    #1 ERROR: `REG/app:2` was not found
    error[pull-failed]: `REG/app:2` was not found
    ");
    assert_snapshot!(project.shown_with(&registry, &["pull", "--platform=linux/arm64", "REG/app:1"]), @r"
    status: 0
    --- stdout
    REG/app:1@sha256:[digest]
    --- stderr
    #1 pull REG/app:1
    #1 sha256:[digest] [size] [time] done
    #1 sha256:[digest] [size] [time] done
    #1 DONE [time]
    warning: this image is for linux/amd64: there is none for linux/arm64
    ");
}

#[test]
fn copy_output() {
    let registry = registry();
    let project = Project::new("");
    assert_snapshot!(project.shown_with(&registry, &["copy", "REG/app:1", "oci-archive://app.tar"]), @r"
    status: 0
    --- stdout
    sha256:[digest]
    --- stderr
    #1 copy REG/app:1 to oci-archive://app.tar
    #1 sha256:[digest] [size] [time] done
    #1 sha256:[digest] [size] [time] done
    #1 DONE [time]
    ");
}

#[test]
fn copy_error() {
    let registry = registry();
    let project = Project::new("");
    assert_snapshot!(project.shown_with(&registry, &["copy", "oci:nowhere", "REG/app:2"]), @r"
    status: 1
    --- stdout
    --- stderr
    #1 copy oci-layout://nowhere to REG/app:2
    #1 ERROR: read nowhere/index.json: No such file or directory (os error 2)
    error[file]: cannot read nowhere/index.json: no such file or directory
    ");
    assert_snapshot!(project.shown_with(&registry, &["copy", "REG/app:1", "zip://app.zip"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'zip://app.zip' for '<TARGET>': `zip://` is no place that kiln knows: docker://, oci-layout://, oci-archive:// and docker-archive:// are

    For more information, try '--help'.
    ");
}

#[test]
fn index_create_output() {
    let registry = registry();
    TestImage::new().layer("file f 0644 two").platform("linux/arm64").push(&registry, "app:arm64");
    let project = Project::new("");
    let joined = ["index", "create", "-t", "REG/app:all", "REG/app:1", "REG/app:arm64"];
    assert_snapshot!(project.shown_with(&registry, &joined), @r"
    status: 0
    --- stdout
    REG/app:all@sha256:[digest]
    --- stderr
    #1 join REG/app:all
    #1 DONE [time]
    ");
}

#[test]
fn index_create_error() {
    let registry = registry();
    TestImage::new().layer("file f 0644 two").push(&registry, "app:2");
    let project = Project::new("");
    let joined = ["index", "create", "-t", "REG/app:all", "REG/app:1", "REG/app:2"];
    assert_snapshot!(project.shown_with(&registry, &joined), @r"
    status: 1
    --- stdout
    --- stderr
    #1 join REG/app:all
    #1 ERROR: REG/app:1 and REG/app:2 are both for linux/amd64: an index has one image for each platform
    error[index-failed]: REG/app:1 and REG/app:2 are both for linux/amd64: an index has one image for each platform
    ");
}

#[test]
fn index_inspect_output() {
    let registry = registry();
    let project = Project::new("");
    let shown = project.shown_with(&registry, &["index", "inspect", "REG/app:1"]);
    assert_snapshot!(unaligned(&shown), @r"
    status: 0
    --- stdout
    name   REG/app:1
    media type  application/vnd.oci.image.manifest.v1+json
    digest   sha256:[digest]
    config   sha256:[digest]

    LAYER   SIZE   MEDIA TYPE
    sha256:[digest]   [size]   application/vnd.oci.image.layer.v1.tar+gzip
    --- stderr
    ");
    let joined = ["index", "create", "-q", "-t", "REG/app:all", "REG/app:1"];
    project.shown_with(&registry, &joined);
    assert_snapshot!(project.shown_with(&registry, &["index", "inspect", "REG/app:all"]), @r"
    status: 0
    --- stdout
    name        REG/app:all
    media type  application/vnd.oci.image.index.v1+json
    digest      sha256:[digest]

    PLATFORM      DIGEST
    linux/amd64   sha256:[digest]
    --- stderr
    ");
}

#[test]
fn index_inspect_error() {
    let registry = registry();
    assert_snapshot!(Project::new("").shown_with(&registry, &["index", "inspect", "REG/app:9"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-image]: `REG/app:9` was not found
    ");
}

/// `kiln login` with a password on standard input.
fn login(project: &Project, registry: &Registry, password: &str) -> String {
    let file = project.write("password", password);
    let host = registry.host();
    let mut command = project.command(&["login", &host, "-u", "me", "--password-stdin"]);
    command.stdin(File::open(file).unwrap());
    let run = run(&mut command);
    let text =
        format!("status: {}\n--- stdout\n{}--- stderr\n{}", run.code(), run.stdout(), run.stderr);
    text.replace(&host, "REG").replace(&project.path().display().to_string(), "[dir]")
}

#[test]
fn login_output() {
    let registry = registry();
    registry.require(Login::Basic { user: "me".to_owned(), password: "right".to_owned() });
    assert_snapshot!(login(&Project::new(""), &registry, "right\n"), @r"
    status: 0
    --- stdout
    logged in to REG; the login is kept in [dir]/.docker/config.json, not encrypted
    --- stderr
    ");
}

#[test]
fn login_error() {
    let registry = registry();
    registry.require(Login::Basic { user: "me".to_owned(), password: "right".to_owned() });
    let project = Project::new("");
    assert_snapshot!(login(&project, &registry, "wrong\n"), @r"
    status: 1
    --- stdout
    --- stderr
    error[login-refused]: `REG` refuses this user and password
     help: check them; REG may want a token in place of the password
    ");
    assert_snapshot!(project.shown_with(&registry, &["login", "REG"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: a login needs a user: give it with `-u`
    ");
}

#[test]
fn logout_output() {
    let registry = registry();
    registry.require(Login::Basic { user: "me".to_owned(), password: "right".to_owned() });
    let project = Project::new("");
    login(&project, &registry, "right\n");
    assert_snapshot!(project.shown_with(&registry, &["logout", "REG"]), @r"
    status: 0
    --- stdout
    logged out of REG
    --- stderr
    ");
    assert_snapshot!(project.shown_with(&registry, &["logout", "REG"]), @r"
    status: 0
    --- stdout
    there was no login for REG
    --- stderr
    ");
}

#[test]
fn logout_error() {
    assert_snapshot!(Project::new("").shown(&["logout", "ghcr.io/me/app"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'ghcr.io/me/app' for '[REGISTRY]': that is not the host of a registry, such as ghcr.io or localhost:5000

    For more information, try '--help'.
    ");
}

#[test]
fn lock_output() {
    let registry = registry();
    let project = Project::new(&format!("FROM {}\n", registry.reference("app:1")));
    assert_snapshot!(project.shown_with(&registry, &["lock", "app"]), @r"
    status: 0
    --- stdout
    added    REG/app:1  sha256:[digest]
    --- stderr
    #1 [internal] load metadata for REG/app:1
    #1 DONE [time]
    app/kiln.lock: 1 image, 0 files, 0 git references; 1 change
    ");
    TestImage::new().layer("file f 0644 two").push(&registry, "app:1");
    assert_snapshot!(project.shown_with(&registry, &["lock", "-q", "--upgrade", "app"]), @r"
    status: 0
    --- stdout
    moved    REG/app:1  sha256:[digest] → sha256:[digest]
    --- stderr
    ");
}

#[test]
fn lock_error() {
    let registry = registry();
    let project = Project::new(&format!("FROM {}\n", registry.reference("app:1")));
    assert_snapshot!(project.shown_with(&registry, &["lock", "--check", "-q", "app"]), @r"
    status: 1
    --- stdout
    added    REG/app:1  sha256:[digest]
    --- stderr
    error[lock-file]: app/kiln.lock is out of date
     help: the same command without `--check` writes it
    ");
    project.dockerfile(&format!("FROM {}\n", registry.reference("app:2")));
    assert_snapshot!(project.shown_with(&registry, &["lock", "-q", "app"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[image-unavailable]: REG/app:2: `REG/app:2` was not found
    ");
}

//! `kiln lock`, and builds that use what it wrote.

use kiln_testkit::oci::{TestImage, index};
use kiln_testkit::registry::Registry;

use crate::fixture::{Project, busybox};
use crate::web::Web;

/// Everything that can be locked, once each.
const ALL: &str = "\
ARG VERSION=1
FROM HOST/app:$VERSION AS one
COPY --from=HOST/tool:1 /tool /tool
ADD WEB/file /file
ADD WEB/x.git#main /x
RUN --mount=from=HOST/mounted:1,target=/m cat /tool /m/tool /file /x/a /extra > /all
FROM one
COPY --from=named /tool /named
RUN cat /all /named
";

struct World {
    registry: Registry,
    web: Web,
    project: Project,
}

impl World {
    fn new(dockerfile: &str) -> Self {
        let (registry, web) = (Registry::start(), Web::start());
        let dockerfile = dockerfile.replace("HOST", &registry.host()).replace("WEB", &web.url);
        let world = Self { registry, web, project: Project::new(&dockerfile) };
        world.publish("old");
        world
    }

    /// Everything with this content, under the same names.
    fn publish(&self, content: &str) {
        let app = |platform: &str| {
            busybox().layer(&format!("file extra 0644 {content}-app\\n")).platform(platform)
        };
        index(&[app("linux/amd64"), app("linux/arm64")]).push(&self.registry, "app:1");
        for name in ["tool", "mounted", "named"] {
            let tree = format!("file tool 0644 {content}-{name}\\n");
            TestImage::new().layer(&tree).push(&self.registry, &format!("{name}:1"));
        }
        std::fs::write(self.web.at("file"), format!("{content}-file\n")).unwrap();
        self.web.commit("x", &[("a", &format!("{content}-git\n"))]);
        self.registry.clear_requests();
        self.web.requests();
    }

    fn named(&self) -> String {
        format!("--build-context=named=docker-image://{}", self.registry.reference("named:1"))
    }

    /// Locks; gives exit code, standard output and errors.
    fn lock(&self, more: &[&str]) -> String {
        let named = self.named();
        let run = self.project.kiln(&[&["lock", "-q", &named], more, &["app"]].concat());
        let text = format!("exit {}\n{}{}", run.code(), run.stdout(), run.stderr);
        self.shown(&text)
    }

    /// A text without what changes.
    fn shown(&self, text: &str) -> String {
        let text = text.replace(&self.registry.host(), "HOST").replace(&self.web.url, "WEB");
        let mut shown = String::new();
        for (at, part) in text.split("sha256:").enumerate() {
            let hex = part.chars().take_while(char::is_ascii_hexdigit).count();
            shown.push_str(if at > 0 { "sha256:…" } else { "" });
            shown.push_str(if at > 0 { &part[hex..] } else { part });
        }
        shown
    }

    fn build(&self, more: &[&str]) -> String {
        let named = self.named();
        self.project.build(&[&[named.as_str()], more].concat()).stderr
    }

    /// Goes on with an empty store.
    fn forget(&self) {
        std::fs::rename(self.project.store(), self.project.at("old-store")).unwrap();
    }
}

#[test]
fn all_is_locked_and_moves_only_when_it_is_told_to() {
    let world = World::new(ALL);
    let said = world.lock(&[]);
    insta::assert_snapshot!(said, @r"
    exit 0
    added    HOST/app:1  sha256:…
    added    HOST/mounted:1  sha256:…
    added    HOST/named:1  sha256:…
    added    HOST/tool:1  sha256:…
    added    WEB/file  sha256:…
    added    WEB/x.git#main  b5ed886f6c34
    ");
    insta::assert_snapshot!(world.shown(&world.project.read("app/kiln.lock")), @r#"
    # Written by `kiln lock`; keep it with the Dockerfile. `kiln lock --upgrade` moves it.
    version = 1

    [images."HOST/app:1"]
    digest = "sha256:…"

    [images."HOST/app:1".platforms]
    "linux/amd64" = "sha256:…"
    "linux/arm64" = "sha256:…"

    [images."HOST/mounted:1"]
    digest = "sha256:…"

    [images."HOST/named:1"]
    digest = "sha256:…"

    [images."HOST/tool:1"]
    digest = "sha256:…"

    [files."WEB/file"]
    digest = "sha256:…"

    [git."WEB/x.git#main"]
    ref = "refs/heads/main"
    commit = "b5ed886f6c3473e9e39f7e3adf022d2e03d95f16"
    "#);
    let locked = world.project.read("app/kiln.lock");
    assert_eq!(world.lock(&["--check"]), "exit 0\n");

    // Another machine, when all names have moved.
    world.publish("new");
    world.forget();
    std::fs::write(world.web.at("file"), "old-file\n").unwrap();
    let log = world.build(&["--locked", "--pull"]);
    for part in ["old-tool", "old-mounted", "old-file", "old-git", "old-app", "old-named"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let tags: Vec<String> = world.registry.requests().into_iter().map(|one| one.path).collect();
    assert!(tags.iter().all(|path| !path.contains("manifests/1")), "{tags:?}");
    // What is known is not asked for.
    world.registry.clear_requests();
    world.web.requests();
    world.build(&["--locked"]);
    assert_eq!((world.registry.log().as_str(), world.web.requests()), ("", Vec::new()));
    assert_eq!(world.lock(&["--check"]), "exit 0\n");
    assert_eq!(world.registry.log(), "");

    world.publish("new");
    let would = world.lock(&["--upgrade", "--check"]);
    let moved = world.lock(&["--upgrade"]);
    insta::assert_snapshot!(moved, @r"
    exit 0
    moved    HOST/app:1  sha256:… → sha256:…
             linux/amd64  sha256:… → sha256:…
             linux/arm64  sha256:… → sha256:…
    moved    HOST/mounted:1  sha256:… → sha256:…
    moved    HOST/named:1  sha256:… → sha256:…
    moved    HOST/tool:1  sha256:… → sha256:…
    moved    WEB/file  sha256:… → sha256:…
    moved    WEB/x.git#main  b5ed886f6c34 → b07e9c9b7d45
    ");
    assert!(would.starts_with("exit 1\nmoved"), "{would}");
    assert!(would.contains("app/kiln.lock is out of date"), "{would}");
    assert_ne!(world.project.read("app/kiln.lock"), locked);
    let log = world.build(&["--locked"]);
    assert!(log.contains("new-git") && !log.contains("old-"), "{log}");
    world.project.assert_whole();
}

#[test]
fn one_name_is_moved() {
    let world = World::new(ALL);
    world.lock(&[]);
    world.publish("new");
    let tool = world.registry.reference("tool");
    insta::assert_snapshot!(world.lock(&[&format!("--upgrade={tool}")]), @r"
    exit 0
    moved    HOST/tool:1  sha256:… → sha256:…
    ");
    insta::assert_snapshot!(world.lock(&["--upgrade=WEB/x.git".replace("WEB", &world.web.url).as_str()]), @r"
    exit 0
    moved    WEB/x.git#main  b5ed886f6c34 → 095e2730eca0
    ");
    let wrong = world.registry.reference("tol:1");
    insta::assert_snapshot!(world.lock(&[&format!("--upgrade={wrong}")]), @r"
    exit 2
    error: `--upgrade=HOST/tol:1`: the Dockerfiles refer to no such thing
     help: did you mean `--upgrade=HOST/tool:1`?
    ");
}

#[test]
fn what_differs_is_an_error() {
    let world = World::new("FROM base\nADD WEB/file /file\n");
    assert!(world.project.try_build(&["--locked"]).stderr.contains("there is no lock file"));
    // `base` is a layout, which nobody locks.
    let arguments = Project::build_arguments(&[]);
    let base = arguments.iter().find(|word| word.starts_with("base=")).unwrap();
    world.lock(&["--build-context", base]);
    world.publish("new");
    // The file that was locked is still in the store.
    world.project.build(&["--locked"]);
    world.forget();
    let failed = world.shown(&world.project.failure(&[]));
    insta::assert_snapshot!(failed, @r"
    exit 1
    error[lock-mismatch]: WEB/file is sha256:…[digest] now, and app/kiln.lock has it as sha256:…[digest]
      --> app/Dockerfile:2:5   step 0 of 0
     2 | ADD WEB/file /file
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^
     help: `kiln lock --upgrade=WEB/file` locks what is there now
    ");
    world.project.build(&["--no-lock"]);
}

#[test]
fn what_is_not_locked_is_told_or_refused() {
    let world = World::new("FROM HOST/app:1\n");
    world.lock(&[]);
    let dockerfile = "FROM HOST/app:1\nCOPY --from=HOST/tool:1 /tool /\nADD WEB/file /\n";
    let dockerfile = dockerfile.replace("HOST", &world.registry.host());
    world.project.dockerfile(&dockerfile.replace("WEB", &world.web.url));
    let failed = world.shown(&world.project.failure(&["--locked", "--platform=linux/amd64"]));
    insta::assert_snapshot!(failed, @r"
    exit 1
    error[not-locked]: `HOST/tool:1` is not in app/kiln.lock, and --locked takes nothing else
     help: run `kiln lock --platform linux/amd64 --build-context base=… app`
    ");
    let log = world.shown(&world.project.build(&[]).stderr);
    assert!(log.contains("`HOST/tool:1` is not in app/kiln.lock; run `kiln lock"), "{log}");
    assert!(log.contains("`WEB/file` is not in app/kiln.lock; run `kiln lock"), "{log}");
    let check = world.lock(&["--check"]);
    assert!(check.starts_with("exit 1\nadded    HOST/tool:1"), "{check}");
    // A platform that the index has is locked, whoever locked it.
    world.project.dockerfile(&format!("FROM {}\n", world.registry.reference("app:1")));
    world.project.build(&["--locked", "--platform=linux/arm64"]);
    world.project.write("app/kiln.lock", "version = 1\n<<<<<<< HEAD\n");
    insta::assert_snapshot!(world.project.failure(&[]), @r"
    exit 1
    error[lock-file]: app/kiln.lock: line 2: a merge has left its marks
     help: keep either side, or delete the file, and run `kiln lock`
    ");
}

#[test]
fn all_that_arguments_platforms_and_files_come_to() {
    let world = World::new("ARG V\nARG TARGETARCH\nFROM HOST/$V:1\n");
    let cross = "FROM --platform=$BUILDPLATFORM HOST/app:1\nFROM HOST/$TARGETARCH:1\n";
    world.project.write("app/cross", &cross.replace("HOST", &world.registry.host()));
    for (name, platform) in [("amd64", "linux/amd64"), ("arm64", "linux/arm64")] {
        busybox().platform(platform).push(&world.registry, &format!("{name}:1"));
    }
    let both = ["-f", "app/Dockerfile", "-f", "app/cross", "--platform=linux/amd64,linux/arm64"];
    let values = ["--build-arg=V=tool", "--build-arg=V=mounted"];
    let said = world.lock(&[&both[..], &values].concat());
    insta::assert_snapshot!(said, @r"
    exit 0
    added    HOST/amd64:1  sha256:…
    added    HOST/app:1  sha256:…
    added    HOST/arm64:1  sha256:…
    added    HOST/mounted:1  sha256:…
    added    HOST/tool:1  sha256:…
    ");
    assert_eq!(world.lock(&["--keep", "--build-arg=V=tool"]), "exit 0\n");
    let said = world.lock(&["--build-arg=V=tool"]);
    assert!(said.contains("removed  HOST/mounted:1") && !said.contains("/tool"), "{said}");
    let many: Vec<String> = (0..65).map(|value| format!("--build-arg=V={value}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(world.lock(&many).contains("more than 64 combinations"));
}

#[test]
fn what_is_gone_is_named_with_a_way_out() {
    let world = World::new("FROM HOST/app:1\nADD WEB/x.git#main /x\nCOPY --from=ctx /a /b\n");
    let context = format!("--build-context=ctx={}/x.git#refs/heads/main", world.web.url);
    world.project.try_build(&["--locked"]);
    assert_eq!(world.lock(&["--check", &context]).lines().count(), 6);
    world.lock(&[&context]);
    world.project.build(&["--locked", &context]);
    world.forget();
    // The history was rewritten.
    world.web.commit("y", &[("a", "other")]);
    std::fs::remove_dir_all(world.web.at("x.git")).unwrap();
    std::fs::rename(world.web.at("y.git"), world.web.at("x.git")).unwrap();
    let failed = world.shown(&world.project.failure(&["--locked", &context]));
    let help = failed.lines().find(|line| line.contains("help:")).unwrap();
    assert!(help.contains("app/kiln.lock has `WEB/x.git#"), "{failed}");
    assert!(help.contains("main` as b5ed886f6c34"), "{failed}");
    assert!(help.contains("`kiln lock --upgrade=WEB/x.git#"), "{failed}");

    let text = world.project.read("app/kiln.lock");
    let digits: Vec<&str> = text.split("sha256:").skip(1).map(|part| &part[..64]).collect();
    let text = digits.iter().fold(text.clone(), |text, hex| text.replace(hex, &"0".repeat(64)));
    world.project.write("app/kiln.lock", &text);
    insta::assert_snapshot!(world.shown(&world.project.failure(&["--locked", &context])), @r"
    exit 1
    error[image-unavailable]: HOST/app:1@sha256:…[digest]: `HOST/app:1@sha256:…[digest]` was not found
     help: app/kiln.lock has `HOST/app:1` as sha256:…[digest]; `kiln lock --upgrade=HOST/app:1` locks what is there now
    ");
}

#[test]
fn an_image_of_this_machine_alone_cannot_be_locked() {
    let world = World::new("FROM base\nCOPY Dockerfile /\n");
    let name = world.registry.reference("local:1");
    world.project.build(&["-t", &name]);
    world.project.dockerfile(&format!("FROM {name}\n"));
    insta::assert_snapshot!(world.lock(&[]), @r"
    exit 1
    error[image-unavailable]: HOST/local:1: `HOST/local:1` was not found
     help: it is in this machine's store alone, where others have nothing to find: push it
    ");
    // Nothing is written, and nothing was asked of a file without references.
    world.project.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    assert!(world.lock(&["--check"]).contains("app/kiln.lock is out of date"));
    assert_eq!(world.lock(&[]), "exit 0\n");
    assert_eq!(world.lock(&["--check"]), "exit 0\n");
    assert!(world.project.read("app/kiln.lock").ends_with("version = 1\n"));
}

#[test]
fn a_context_of_git_has_its_own() {
    let world = World::new("");
    let dockerfile = format!("FROM {}\nCOPY a /a\n", world.registry.reference("tool:1"));
    world.web.commit("ctx", &[("Dockerfile", &dockerfile), ("a", "one")]);
    let place = format!("{}/ctx.git#main", world.web.url);
    let locked = world.project.kiln(&["lock", "-q", "--lock-file", "ctx.lock", &place]);
    assert_eq!(locked.code(), 0, "{}", locked.stderr);
    let text = world.project.read("ctx.lock");
    assert!(text.contains("tool:1") && !text.contains("[git"), "{text}");
    assert!(world.lock(&[]).contains("exit"));
    let refused = world.project.kiln(&["lock", &place]).stderr;
    assert!(refused.contains("--lock-file FILE"), "{refused}");
    let missing = world.project.kiln(&["build", "--locked", &place]).stderr;
    assert!(missing.contains("there is no lock file kiln.lock"), "{missing}");
    world.web.commit("ctx", &[("kiln.lock", &text)]);
    let old = world.registry.manifest("tool", "1").unwrap().1;
    world.publish("new");
    let run = world.project.kiln(&["build", "--locked", "-o", "out", &place]);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert_eq!(world.project.read("out/tool"), "old-tool\n");
    assert_ne!(world.registry.manifest("tool", "1").unwrap().1, old);
}

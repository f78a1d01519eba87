//! `--cache-to` and `--cache-from` of object stores.

use kiln_testkit::objects::{KEY_ID, ObjectFault, Objects, TOKEN};

use crate::fixture::{Project, Run, run};

const DOCKERFILE: &str = "FROM base AS made\nRUN echo made > /made && echo $RANDOM > /random\n\
    FROM base\nRUN date +%s%N > /time\nCOPY --from=made /made /made\nRUN cat /time /made > /all\n";

const SECRET: &str = "s3cretkey";

/// The three caches, as options.
fn kinds(objects: &Objects) -> [String; 3] {
    let url = objects.url();
    [
        format!("type=s3,bucket=bucket,region=r,endpoint_url={url},use_path_style=true,name=a;b"),
        "type=gha,scope=app".to_owned(),
        format!("type=azblob,account_url={url},account_name=account,container=container"),
    ]
}

fn machine() -> Project {
    Project::new(DOCKERFILE)
}

/// Builds with what lets into the stores in the environment.
fn build(machine: &Project, objects: &Objects, arguments: &[&str]) -> Run {
    let mut command = machine.build_command(arguments);
    command
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("ACTIONS_RESULTS_URL", objects.url())
        .env("ACTIONS_RUNTIME_TOKEN", TOKEN)
        .env("AZURE_STORAGE_KEY", "czNjcmV0a2V5");
    run(&mut command)
}

fn fill(machine: &Project, objects: &Objects, cache: &str) -> String {
    let to = format!("{cache},mode=max");
    build(machine, objects, &["-t", "app", "--cache-to", &to]).expect_code(0).digest()
}

#[test]
fn an_empty_machine_runs_nothing_and_fetches_no_layer_it_does_not_need() {
    let objects = Objects::start();
    for cache in kinds(&objects) {
        objects.replace("", None);
        let a = machine();
        let digest = fill(&a, &objects, &cache);
        let stored = objects.paths().len();
        // Four layers with their indexes, the config, and the manifest by its names.
        assert!(stored >= 10, "{:?}", objects.paths());
        // What is there is not sent again.
        objects.clear_log();
        assert_eq!(fill(&a, &objects, &cache), digest);
        let sent = objects.log().lines().filter(|line| line.starts_with("PUT ")).count();
        assert!(sent <= 2, "{}", objects.log());
        objects.clear_log();
        let b = machine();
        let again = build(&b, &objects, &["-t", "app", "--cache-from", &cache]).expect_code(0);
        again.assert_cached();
        assert_eq!(again.digest(), digest);
        let fetched = objects.log().lines().filter(|line| line.starts_with("GET ")).count();
        // Manifests, the config, the indexes of the layers.
        assert!(fetched <= 8, "{}", objects.log());
        b.assert_whole();
        // An output that holds the layers gets them.
        let out = ["-t", "app", "--cache-from", &cache, "-o", "type=oci,dest=out.tar"];
        assert_eq!(build(&b, &objects, &out).expect_code(0).digest(), digest);
        b.assert_whole();
        for shown in [format!("{again:?}"), format!("{:?}", a.kiln(&["history"]))] {
            assert!(!shown.contains(SECRET) && !shown.contains(TOKEN), "{shown}");
        }
    }
}

#[test]
fn what_breaks_is_tried_again() {
    let objects = Objects::start();
    for cache in kinds(&objects) {
        objects.replace("", None);
        let a = machine();
        objects.fail("PUT /", ObjectFault::Status(503, "SlowDown"));
        objects.fail("HEAD /", ObjectFault::Status(500, "InternalError"));
        let digest = fill(&a, &objects, &cache);
        objects.fail("GET /", ObjectFault::Cut);
        objects.fail("GET /", ObjectFault::Status(503, "SlowDown"));
        let b = machine();
        let out = ["--cache-from", &cache, "-o", "type=oci,dest=out.tar"];
        let again = build(&b, &objects, &out).expect_code(0);
        again.assert_cached();
        assert_eq!(again.digest(), digest);
        b.assert_whole();
    }
}

#[test]
fn what_is_lost_or_wrong_is_made_anew() {
    let objects = Objects::start();
    let [cache, ..] = kinds(&objects);
    let a = machine();
    fill(&a, &objects, &cache);
    let b = machine();
    build(&b, &objects, &["--cache-from", &cache]).expect_code(0).assert_cached();
    objects.replace("/blobs/", Some(b"something else"));
    let out = ["-t", "app", "--cache-from", &cache, "-o", "type=oci,dest=out.tar"];
    build(&b, &objects, &out).expect_code(0);
    // What the store knew before, and nobody has any more, is no image: `date` says something else now.
    b.kiln(&["fsck", "--repair"]);
    b.assert_whole();
    // A cache that is not there, or of which nothing can be read, is a warning.
    for missing in ["/blobs/", "/manifests/"] {
        objects.replace(missing, None);
        let c = machine();
        let run = build(&c, &objects, &["--cache-from", &cache]).expect_code(0);
        assert!(run.stderr.contains("cache import from s3://bucket"), "{}", run.stderr);
        c.assert_whole();
    }
}

#[test]
fn refusals_are_told() {
    let objects = Objects::start();
    let [cache, ..] = kinds(&objects);
    let a = machine();
    let failure = |cache: &str| {
        let run = build(&a, &objects, &["--cache-to", cache]);
        assert_ne!(run.code(), 0);
        run.stderr
    };
    let error = failure(&format!("{cache},access_key_id=other,secret_access_key={SECRET}"));
    assert!(error.contains("403: InvalidAccessKeyId"), "{error}");
    assert!(error.contains("check the access key") && !error.contains(SECRET), "{error}");
    let error = failure(&cache.replace("bucket=bucket", "bucket=none"));
    assert!(error.contains("NoSuchBucket") && error.contains("make the bucket"), "{error}");
    let ignored = format!("{},ignore-error=true", cache.replace("bucket=bucket", "bucket=none"));
    let run = build(&a, &objects, &["--cache-to", &ignored]).expect_code(0);
    assert!(run.stderr.contains("cache export to s3://none"), "{}", run.stderr);
    // Out of an action there is no cache of actions.
    let run = a.build(&["--cache-to", "type=gha,mode=max", "--cache-from", "type=gha"]);
    assert!(run.stderr.contains("ACTIONS_RESULTS_URL is not set"), "{}", run.stderr);
}

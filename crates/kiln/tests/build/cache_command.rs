//! `kiln cache`: what is there, what goes, and a cap that builds keep.

use serde_json::Value;

use crate::fixture::{Project, Run};

const DOCKERFILE: &str = "FROM base AS tools\n\
    RUN --mount=type=cache,id=uv,target=/c head -c 3000000 /dev/urandom > /c/file; head -c 2000000 /dev/urandom > /tool\n\
    FROM base AS app\n\
    COPY --from=tools /tool /\n\
    RUN echo app > /app\n";

impl Project {
    fn cache(&self, arguments: &[&str]) -> Run {
        self.kiln(&[&["cache"], arguments].concat())
    }

    fn entries(&self) -> Vec<Value> {
        let listed = self.cache(&["ls", "--format=json"]).stdout();
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn info(&self) -> Value {
        serde_json::from_str(&self.cache(&["info", "--format=json"]).stdout()).unwrap()
    }
}

#[test]
fn what_no_image_needs_goes_and_the_rest_is_whole() {
    let project = Project::new(DOCKERFILE);
    project.build(&["-t", "app"]);
    let entries = project.entries();
    let of = |key: &str, value: &str| entries.iter().filter(|entry| entry[key] == value).count();
    assert_eq!((of("type", "mount"), of("stage", "tools"), of("stage", "app")), (1, 1, 2));
    assert!(project.cache(&["info"]).stdout().contains("held by 1 image name"));

    let foreseen = project.cache(&["prune", "--all", "--dry-run"]).stdout();
    assert!(foreseen.contains("mount    uv\n"), "{foreseen}");
    assert!(foreseen.contains("RUN --mount=type=cache"), "{foreseen}");
    assert_eq!(project.entries().len(), entries.len());
    let all = project.info()["prunable_all_bytes"].as_u64().unwrap();
    assert!(all > 5_000_000, "{all}");

    assert_eq!(project.cache(&["rm", "uv"]).stdout().lines().next(), Some("mount    uv"));
    let missing = project.cache(&["rm", "uv"]);
    assert!(missing.stderr.contains("nothing in the cache has the id `uv`"), "{}", missing.stderr);
    project.cache(&["prune", "--all"]).expect_code(0);
    assert_eq!(project.cache(&["prune", "--all"]).stdout(), "nothing to remove\n");
    assert!(project.entries().iter().all(|entry| entry["in_use"] == true));
    assert_eq!(project.kiln(&["run", "app", "cat", "/app"]).expect_code(0).stdout(), "app\n");
    project.assert_whole();
    // Its name was all that held it.
    project.kiln(&["rmi", "app"]).expect_code(0);
    project.cache(&["prune", "--filter", "stage=app"]).expect_code(0);
    assert!(project.entries().iter().all(|entry| entry["stage"] != "app"));
    project.cache(&["prune", "--all"]).expect_code(0);
    assert_eq!(project.entries(), [] as [Value; 0]);
    project.build(&["-t", "app"]);
    project.assert_whole();
}

#[test]
fn the_store_holds_no_more_after_a_build_than_kiln_toml_says() {
    let project = Project::new(DOCKERFILE);
    project.write("kiln.toml", "[cache]\nkeep-storage = \"4MB\"\n");
    let built = project.build(&["--progress=plain", "-o", "files"]);
    assert!(built.stderr.contains("of cache were removed"), "{}", built.stderr);
    assert!(project.info()["size_bytes"].as_u64().unwrap() <= 4_000_000);
    let again = project.build(&["--progress=plain", "-o", "files"]);
    assert!(again.stderr.contains("step"), "{}", again.stderr);
    project.assert_whole();
    project.write("kiln.toml", "[cache]\nkeep-storage = \"much\"\n");
    project.write("app/Dockerfile", "FROM base\nRUN echo other > /other\n");
    let warned = project.build(&["--progress=plain", "-o", "files"]);
    assert!(warned.stderr.contains("`much` is no size"), "{}", warned.stderr);
    let refused = project.cache(&["prune"]);
    assert!(refused.stderr.contains("error[invalid-settings]"), "{}", refused.stderr);
}

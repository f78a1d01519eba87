//! `kiln bake`: several targets of one definition.

use crate::fixture::Project;

/// A step that says in a cache mount that it ran.
const NOTED: &str = "RUN --mount=type=cache,target=/log echo ran >> /log/ran; sleep 0.2\n";

fn project(bake_file: &str) -> Project {
    let project = Project::new("FROM base\n");
    project.write("docker-bake.hcl", bake_file);
    project
}

#[test]
fn a_step_of_several_targets_runs_once() {
    let project = project(
        "group \"default\" { targets = [\"a\", \"b\", \"c\"] }\n\
         target \"a\" { context = \"app\" }\n\
         target \"b\" {\n  context = \"app\"\n  dockerfile = \"Other\"\n}\n\
         target \"c\" {\n  inherits = [\"a\"]\n  args = { X = \"c\" }\n}\n",
    );
    project.dockerfile(&format!("FROM base\n{NOTED}ARG X=a\nRUN echo $X > /x\n"));
    project.write("app/Other", &format!("FROM base\n{NOTED}RUN echo b > /x\n"));
    let run = project.bake(&[]).expect_code(0);
    assert!(run.stderr.contains("[c 3/3] RUN echo c > /x"), "{run:?}");
    project.dockerfile("FROM base\nRUN --mount=type=cache,target=/log cat /log/ran\n");
    assert_eq!(project.build(&[]).output(), "ran\n");
    project.assert_whole();
}

/// The builds of the history with their steps, the oldest first.
fn history(project: &Project) -> Vec<serde_json::Value> {
    let exported = project.kiln(&["history", "export"]).expect_code(0).stdout();
    exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_baked_at_once_is_one_build() {
    let project = project(
        "group \"default\" { targets = [\"web\", \"job\"] }\n\
         target \"web\" {\n  context = \"app\"\n  target = \"web\"\n}\n\
         target \"job\" {\n  context = \"app\"\n  target = \"job\"\n}\n\
         target \"docs\" {\n  context = \"app\"\n  dockerfile = \"Docs\"\n}\n",
    );
    project.dockerfile(
        "FROM base AS deps\nRUN echo deps\nFROM deps AS web\nRUN echo web\nFROM deps AS job\nRUN echo job\n",
    );
    project.write("app/Docs", "FROM base\nRUN echo docs\n");
    let steps = |build: &serde_json::Value| -> Vec<String> {
        let steps = build["steps"].as_array().unwrap().iter();
        let ran = steps.filter(|step| step["instruction"].as_str().unwrap().starts_with("RUN"));
        let line = |step: &serde_json::Value| {
            let targets: Vec<&str> = step["targets"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|t| t.as_str().unwrap())
                .collect();
            let name = step["name"].as_str().unwrap();
            format!("{name} of {}: {}", targets.join("+"), step["outcome"].as_str().unwrap())
        };
        ran.map(line).collect()
    };
    project.bake(&[]).expect_code(0);
    let builds = history(&project);
    assert_eq!(builds.len(), 1);
    assert_eq!(builds[0]["targets"], serde_json::json!(["job", "web"]));
    assert!(builds[0]["dockerfile"].as_str().unwrap().ends_with("/app/Dockerfile"));
    assert_eq!(builds[0]["images"].as_array().unwrap().len(), 2);
    let mut found = steps(&builds[0]);
    found.sort();
    assert_eq!(
        found,
        [
            "[deps 2/2] RUN echo deps of job+web: done",
            "[job 1/1] RUN echo job of job: done",
            "[web 1/1] RUN echo web of web: done",
        ]
    );
    // Later builds are compared with it, whoever they are of.
    project.dockerfile(
        "FROM base AS deps\nRUN echo deps\nFROM deps AS web\nRUN echo web 2\nFROM deps AS job\nRUN echo job\n",
    );
    project.build(&["--target=web"]);
    let explained = project.kiln(&["explain"]).expect_code(0).stdout();
    assert!(explained.contains("command changed"), "{explained}");
    // Several Dockerfiles: a build of the file that names them.
    project.bake(&["default", "docs"]).expect_code(0);
    let build = history(&project).pop().unwrap();
    assert!(build["dockerfile"].as_str().unwrap().ends_with("/docker-bake.hcl"), "{build}");
    assert!(
        steps(&build).contains(&"[docs 2/2] RUN echo docs of docs: done".to_owned()),
        "{build}"
    );
    let listed = project.kiln(&["history", "ls", "-n1"]).stdout();
    assert!(listed.contains("docker-bake.hcl") && listed.contains("docs,job,web"), "{listed}");
    let explain = |words: &str| project.kiln(&["explain", words]).expect_code(0).stdout();
    assert!(explain("Docs:2").contains("echo docs") && !explain("Docs:2").contains("echo deps"));
    assert!(explain("docs").contains("echo docs") && !explain("docs").contains("echo deps"));
    project.write("app/Docs", "FROM base\nRUN echo other\n");
    project.kiln(&["history", "rm", "b1", "b2"]).expect_code(0);
    project.build(&["-f", "app/Docs"]);
    let explained = project.kiln(&["explain"]).expect_code(0).stdout();
    assert!(explained.contains("command changed"), "{explained}");
    // All cached: a row without steps of its own.
    project.bake(&[]).expect_code(0);
    let again = history(&project).pop().unwrap();
    assert!(steps(&again).iter().all(|step| step.ends_with(": cached")), "{again}");
    let report = project.kiln(&["report", "--format=json"]).expect_code(0).stdout();
    assert!(report.contains("\"images\""), "{report}");
}

#[test]
fn results_are_contexts_of_other_targets() {
    let project = project(
        "target \"default\" {\n  context = \"app\"\n  contexts = { lib = \"target:lib\", kept = \"target:kept\" }\n  \
         output = [\"type=local,dest=out\"]\n}\n\
         target \"lib\" {\n  dockerfile-inline = \"FROM base\\nRUN echo $${X:-lib} > /lib\\nENV L=1\\n\"\n  tags = [\"lib\"]\n}\n\
         target \"kept\" {\n  contexts = { lib = \"target:lib\" }\n  \
         dockerfile-inline = \"FROM lib\\nRUN echo kept $L > /kept\\n\"\n  output = [\"type=oci,dest=kept.tar\"]\n}\n",
    );
    project.dockerfile(
        "FROM lib AS base-of-lib\nRUN echo $L > /l\nFROM scratch\nCOPY --from=base-of-lib /l /\n\
         COPY --from=lib /lib /\nCOPY --from=kept /kept /\n",
    );
    let run = project.bake(&["default", "kept", "--metadata-file=meta.json"]).expect_code(0);
    assert_eq!(project.read("out/l") + &project.read("out/lib"), "1\nlib\n", "{run:?}");
    assert_eq!(project.read("out/kept"), "kept 1\n");
    assert!(project.at("kept.tar").is_file());
    let metadata: serde_json::Value = serde_json::from_str(&project.read("meta.json")).unwrap();
    assert!(metadata["kept"]["containerimage.digest"].is_string());
    // What only serves others gets no name.
    let images = project.kiln(&["images"]).stdout();
    assert!(!images.contains("lib "), "{images}");
    project.assert_whole();
}

#[test]
fn a_failure_says_whose_it_is_and_ends_the_others() {
    let project = project(
        "group \"default\" { targets = [\"good\", \"bad\"] }\n\
         target \"good\" { dockerfile-inline = \"FROM base\\nRUN sleep 300\\n\" }\n\
         target \"bad\" { dockerfile-inline = \"FROM base\\nRUN echo why; exit 7\\n\" }\n",
    );
    let run = project.bake(&["--progress=quiet"]);
    insta::assert_snapshot!(project.show(&run), @r"
    exit 1
    target `bad` failed:
    error[run-failed]: `echo why; exit 7` did not complete successfully: exit code: 7
      --> dockerfile-inline of bad:2:1   step 2 of 2
     2 | RUN echo why; exit 7
       | ^^^^^^^^^^^^^^^^^^^^
      why: why
    ");
}

#[test]
fn what_is_outside_has_to_be_allowed() {
    let project = project(
        "target \"default\" {\n  context = \"/usr\"\n  network = \"host\"\n  output = [\"type=local,dest=../out\"]\n  \
         dockerfile-inline = \"FROM scratch\\n\"\n}\n",
    );
    let run = project.bake(&[]);
    let parent = project.path().parent().unwrap().display().to_string();
    insta::assert_snapshot!(project.show(&run).replace(&parent, "[parent]"), @r"
    exit 1
    error[not-allowed]: additional privileges requested: fs.read=/usr, fs.write=[parent]/out, network.host
     help: pass `--allow=fs.read=/usr --allow=fs.write=[parent]/out --allow=network.host` to grant them
    ");
}

#[test]
fn definitions_are_printed_listed_and_refused() {
    let project = project(
        "variable \"TAG\" {\n  default = \"dev\"\n  description = \"of images\"\n}\n\
         group \"default\" { targets = [\"app\"] }\n\
         target \"app\" {\n  description = \"The app\"\n  tags = [\"app:${TAG}\"]\n}\n\
         target \"_base\" {}\n",
    );
    let shown = |arguments: &[&str]| {
        let run = project.kiln(&[&["bake"], arguments].concat());
        format!("{}{}", run.stdout(), project.show(&run))
    };
    insta::assert_snapshot!(shown(&["--print", "--set", "*.platform=linux/arm64"]), @r#"
    {
      "group": {
        "default": {
          "targets": [
            "app"
          ]
        }
      },
      "target": {
        "app": {
          "description": "The app",
          "context": ".",
          "dockerfile": "Dockerfile",
          "tags": [
            "app:dev"
          ],
          "platforms": [
            "linux/arm64"
          ]
        }
      }
    }
    exit 0
    "#);
    insta::assert_snapshot!(shown(&["--list=targets"]), @r"
    TARGET    DESCRIPTION
    app       The app
    default   app
    exit 0
    ");
    insta::assert_snapshot!(shown(&["--list=variables"]), @r"
    VARIABLE   TYPE   VALUE   DESCRIPTION
    TAG               dev     of images
    exit 0
    ");
    insta::assert_snapshot!(shown(&["--list=type=variables,format=json"]), @r#"
    [
      {
        "name": "TAG",
        "description": "of images",
        "value": "dev"
      }
    ]
    exit 0
    "#);
    insta::assert_snapshot!(shown(&["ap"]), @r"
    exit 1
    error[bake-target]: failed to find target ap
     help: did you mean `app`?
    ");
    insta::assert_snapshot!(shown(&["--set", "app.attest=type=sbom"]), @r"
    exit 2
    error: target `app`: kiln makes no attestations yet (`sbom`)
     help: `--set '*.attest=type=sbom,disabled=true'` builds without it
    ");
    insta::assert_snapshot!(shown(&["--set", "app.cache-to=type=ftp"]), @r"
    exit 2
    error: target `app`: invalid value 'type=ftp' for cache-to: type `ftp` is not supported; kiln knows the caches registry, local, inline, s3, gha and azblob
    ");
    insta::assert_snapshot!(shown(&["--list=things"]), @r"
    exit 2
    error: invalid value 'things' for '--list <WHAT>': `things` can't be listed, targets and variables can

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(shown(&["https://example.org/x.git"]), @r"
    exit 2
    error: kiln reads no bake files from https://example.org/x.git yet
     help: clone it, and run `kiln bake` there
    ");
    project.write(
        "docker-bake.hcl",
        "target \"app\" {\n  tags = [\"${TGA}\"]\n}\nvariable \"TAG\" {}\n",
    );
    insta::assert_snapshot!(shown(&["--print"]), @r#"
    exit 1
    error[bake-expression]: there is no variable `TGA`
      --> docker-bake.hcl:2:14
     2 |   tags = ["${TGA}"]
       |              ^^^
     help: did you mean `TAG`?
    "#);
    std::fs::remove_file(project.at("docker-bake.hcl")).unwrap();
    insta::assert_snapshot!(shown(&[]), @r"
    exit 1
    error[no-bake-file]: couldn't find a bake definition here
     help: it is looked for in docker-bake.hcl, docker-bake.json and compose.yaml; `-f FILE` names another file
    ");
}

#[test]
fn dockerfiles_are_judged_target_by_target() {
    let project = project(
        "group \"default\" { targets = [\"a\", \"b\"] }\n\
         target \"a\" {\n  context = \"app\"\n  description = \"First\"\n}\n\
         target \"b\" { dockerfile-inline = \"from scratch\\nENV a b\\n\" }\n",
    );
    project.dockerfile("FROM scratch\n");
    let run = project.kiln(&["bake", "--check"]);
    insta::assert_snapshot!(format!("{}{}", run.stdout(), project.show(&run)), @r#"
    a
    First

    Check complete, no warnings found.

    b

    Check complete, 2 warnings have been found!

    warning[ConsistentInstructionCasing]: Command 'from' should match the case of the command majority (uppercase)
      --> dockerfile-inline of b:1:1
     1 | from scratch
       | ^^^^
     help: write it like the other instructions

    warning[LegacyKeyValueFormat]: "ENV key=value" should be used instead of legacy "ENV key value" format
      --> dockerfile-inline of b:2:5
     2 | ENV a b
       |     ^^^
     help: write `key=value`, with quotes around a value that has blanks

    2 of them can be fixed with `kiln check --fix`.
    exit 1
    "#);
}

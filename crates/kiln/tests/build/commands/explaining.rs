//! Commands about builds that are over: `explain`, `history`, `report`.

use insta::assert_snapshot;

use super::{built, masked, project};
use crate::fixture::Project;

/// A project whose steps take so long that the slowest is always the same, with an edit.
fn measured() -> Project {
    let project = Project::new(
        "FROM base AS tools\nRUN sleep 0.3; echo tools > /tools\nFROM tools AS app\n\
         RUN --mount=type=bind,source=file,target=/f sleep $(cat /f); cp /f /made\n",
    );
    for word in ["0.5", "0.5", "1.2", "1.2"] {
        project.write("app/file", word);
        project.build(&["-t", "app:1"]);
    }
    project
}

/// A report without what differs from run to run: heights of sparklines, changes of times, what steps used
/// and waited for, and the layers of the base.
fn reported(project: &Project, arguments: &[&str]) -> String {
    let word = |word: &str| {
        let is_change = word.ends_with('%') && word.starts_with(['+', '-']);
        if is_change { "±%".to_owned() } else { word.to_owned() }
    };
    let mut shown = String::new();
    let mut is_layer = false;
    for line in project.shown_table(&[&["report"], arguments].concat()).lines() {
        is_layer &= !line.is_empty();
        if !is_layer && !line.contains("load build context") {
            let separator = if line.starts_with('|') { " | " } else { "   " };
            let used = match line.starts_with(['[', '|']) {
                true if line.contains("1/1] RUN") => 2,
                true if line.contains("RUN sleep") => 4,
                _ => 9,
            };
            let cells: Vec<&str> = line.split(separator).take(used).collect();
            let words = cells.join(separator).split(' ').map(word).collect::<Vec<_>>().join(" ");
            shown.push_str(words.trim_end());
            shown.push('\n');
        }
        is_layer |= line.to_lowercase().contains("layers of the last images");
    }
    shown.replace(|c: char| ('▁'..='█').contains(&c), "▅")
}

/// A build without what its steps used and waited for.
fn without_usage(shown: &str) -> String {
    let is_usage = |line: &str| line.starts_with("         ") && line.contains("[time]");
    let lines = shown.lines().filter(|line| !is_usage(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn explain_output() {
    let project = built();
    assert_snapshot!(without_usage(&project.shown(&["explain"])), @r"
    status: 0
    --- stdout
    build b3  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    3 steps: 1 cached, 2 ran

        1  [tools 1/2] FROM oci-layout of context base  cached
        2  [tools 2/2] RUN echo tools > /tools  cached
        4  [app 1/2] COPY file /file  [time]
             file changed
        5  [app 2/2] RUN cat /file; cp /file /made  [time]
             COPY file /file (line 4) made other files
    --- stderr
    ");
    assert_snapshot!(project.shown(&["explain", "4"]), @r"
    status: 0
    --- stdout
    build b3  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    3 steps: 1 cached, 2 ran

        4  [app 1/2] COPY file /file  [time]
             file changed
             compared with build b2
             its key is made of
               operation  copy
               source  /file
               destination  /file
               the file system so far  content [id]
               `file` of the context
                 - content [id]
                 + content [id]
    --- stderr
    ");
}

#[test]
fn explain_error() {
    let project = project();
    assert_snapshot!(project.shown(&["explain"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-build]: the history of the store has no build
     help: every `kiln build` is kept there
    ");
    project.build(&[]);
    assert_snapshot!(project.shown(&["explain", "b7"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-build]: the history has no build b7
     help: the last one is b1
    ");
    assert_snapshot!(project.shown(&["explain", "tols"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-step]: build b1 has no step or stage `tols`
     help: did you mean `tools`?
    ");
}

#[test]
fn history_ls_output() {
    assert_snapshot!(built().shown_table(&["history", "ls"]), @r"
    status: 0
    --- stdout
    BUILD   WHEN   TOOK   RESULT   CACHED   SIZE   COMMIT   TARGET   DOCKERFILE
    b3   [age]   [time]   ok   33%   [size]   [dir]/app/Dockerfile
    b2   [age]   [time]   ok   100%   [size]   [dir]/app/Dockerfile
    b1   [age]   [time]   ok   0%   [size]   [dir]/app/Dockerfile
    --- stderr
    ");
    assert_snapshot!(project().shown(&["history", "ls"]), @r"
    status: 0
    --- stdout
    BUILD   WHEN   TOOK   RESULT   CACHED   SIZE   COMMIT   TARGET   DOCKERFILE
    --- stderr
    ");
}

#[test]
fn history_ls_error() {
    assert_snapshot!(project().shown(&["history", "ls", "--format=xml"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'xml' for '--format <FORMAT>'
      [possible values: table, json]

    For more information, try '--help'.
    ");
}

#[test]
fn history_show_output() {
    assert_snapshot!(without_usage(&built().shown(&["history", "show"])), @r"
    status: 0
    --- stdout
    build b3  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    3 steps: 1 cached, 2 ran

        1  [tools 1/2] FROM oci-layout of context base  cached
        2  [tools 2/2] RUN echo tools > /tools  cached
        4  [app 1/2] COPY file /file  [time]
             file changed
        5  [app 2/2] RUN cat /file; cp /file /made  [time]
             COPY file /file (line 4) made other files

    app [id]  [size], 4 layers, 1 of 3 steps cached
    $ kiln build --progress=plain --build-context base=oci-layout://[base] -t app:1 app
    --- stderr
    ");
}

#[test]
fn history_show_error() {
    let project = project();
    assert_snapshot!(project.shown(&["history", "show"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-build]: the history of the store has no build
     help: every `kiln build` is kept there
    ");
    assert_snapshot!(project.shown(&["history", "show", "last"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: `last` does not name a build
     help: `@` is the last one, `@1` the one before it, `b42` that number
    ");
}

#[test]
fn history_logs_output() {
    assert_snapshot!(built().shown(&["history", "logs"]), @r"
    status: 0
    --- stdout
    [app 2/2] RUN cat /file; cp /file /made
    two
    --- stderr
    ");
}

#[test]
fn history_logs_error() {
    let project = built();
    assert_snapshot!(project.shown(&["history", "logs", "b2"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-log]: no log of build b2 is kept
     help: steps that the cache had write nothing; the last 200 builds keep theirs
    ");
    assert_snapshot!(project.shown(&["history", "logs", "@", "99"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-step]: no step of build b3 is at line 99
     help: the step before it is that of line 5
    ");
}

#[test]
fn history_rm_output() {
    let project = built();
    assert_snapshot!(project.shown(&["history", "rm", "b1", "@"]), @r"
    status: 0
    --- stdout
    forgot 2 builds
    --- stderr
    ");
    assert_snapshot!(project.shown(&["history", "rm", "--all"]), @r"
    status: 0
    --- stdout
    forgot 1 build
    --- stderr
    ");
}

#[test]
fn history_rm_error() {
    let project = built();
    assert_snapshot!(project.shown(&["history", "rm"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <BUILD>...

    Usage: kiln history rm <BUILD>...

    For more information, try '--help'.
    ");
    assert_snapshot!(project.shown(&["history", "rm", "b4"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-build]: the history has no build b4
     help: the last one is b3
    ");
}

#[test]
fn history_export_output() {
    let project = built();
    let exported = project.shown(&["history", "export", "@1"]);
    assert_snapshot!(masked(exported.lines().nth(2).unwrap()), @r#"
    {
      "build": "b2",
      "started": "[timestamp]",
      "duration_ms": 0,
      "context": "[dir]/app",
      "dockerfile": "[dir]/app/Dockerfile",
      "targets": [],
      "platforms": [
        "linux/amd64"
      ],
      "command": [
        "kiln",
        "build",
        "--progress=plain",
        "--build-context",
        "base=oci-layout://[base]",
        "-t",
        "app:1",
        "app"
      ],
      "commit": null,
      "images": [
        {
          "target": "app",
          "platform": "linux/amd64",
          "id": "sha256:[digest]",
          "steps": 3,
          "cached": 3,
          "layers": 4,
          "size_bytes": 0
        }
      ],
      "outcome": "done",
      "error": null,
      "steps": [
        {
          "number": 0,
          "name": "[internal] load build context",
          "stage": "",
          "instruction": "load build context",
          "line": null,
          "last_line": null,
          "inputs": [],
          "outcome": "cached",
          "error": null,
          "started_ms": 0,
          "duration_ms": 0,
          "waited_ms": 0,
          "usage": null,
          "causes": [],
          "compared_with": null,
          "key": null,
          "content": null
        },
        {
          "number": 1,
          "name": "[tools 1/2] FROM oci-layout of context base",
          "stage": "tools",
          "instruction": "FROM oci-layout of context base",
          "line": 1,
          "last_line": 1,
          "inputs": [],
          "outcome": "cached",
          "error": null,
          "started_ms": 0,
          "duration_ms": 0,
          "waited_ms": 0,
          "usage": null,
          "causes": [],
          "compared_with": null,
          "key": null,
          "content": "[digest]",
          "base": {
            "reference": "base",
            "manifest": "sha256:[digest]"
          }
        },
        {
          "number": 2,
          "name": "[tools 2/2] RUN echo tools > /tools",
          "stage": "tools",
          "instruction": "RUN echo tools > /tools",
          "line": 2,
          "last_line": 2,
          "inputs": [
            1
          ],
          "outcome": "cached",
          "error": null,
          "started_ms": 0,
          "duration_ms": 0,
          "waited_ms": 0,
          "usage": null,
          "causes": [],
          "compared_with": null,
          "key": "[digest]",
          "content": "[digest]"
        },
        {
          "number": 3,
          "name": "[app 1/2] COPY file /file",
          "stage": "app",
          "instruction": "COPY file /file",
          "line": 4,
          "last_line": 4,
          "inputs": [
            2,
            0
          ],
          "outcome": "cached",
          "error": null,
          "started_ms": 0,
          "duration_ms": 0,
          "waited_ms": 0,
          "usage": null,
          "causes": [],
          "compared_with": null,
          "key": "[digest]",
          "content": "[digest]"
        },
        {
          "number": 4,
          "name": "[app 2/2] RUN cat /file; cp /file /made",
          "stage": "app",
          "instruction": "RUN cat /file; cp /file /made",
          "line": 5,
          "last_line": 5,
          "inputs": [
            3
          ],
          "outcome": "cached",
          "error": null,
          "started_ms": 0,
          "duration_ms": 0,
          "waited_ms": 0,
          "usage": null,
          "causes": [],
          "compared_with": null,
          "key": "[digest]",
          "content": "[digest]"
        }
      ]
    }
    "#);
    assert_snapshot!(project.shown(&["history", "export", "--trace", "-o", "trace.json"]), @r"
    status: 0
    --- stdout
    --- stderr
    ");
}

#[test]
fn history_export_error() {
    let project = built();
    assert_snapshot!(project.shown(&["history", "export", "--trace", "b1", "b2"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: a trace is of one build
     help: name it: `kiln history export --trace b42`
    ");
    assert_snapshot!(project.shown(&["history", "export", "-o", "app"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[file]: cannot write app: is a directory
    ");
}

#[test]
fn report_output() {
    let project = measured();
    assert_snapshot!(reported(&project, &[]), @r"
    status: 0
    --- stdout
    [dir]/app/Dockerfile: 4 builds
    5 of 8 steps cached (62%)

    BUILDS   COUNT   MEDIAN   LAST   TREND
    clean   1   [time]   [time]   ▅
    edit   1   [time]   [time]   ▅
    cached   2   [time]   [time]   ▅▅

    STAGE   STEPS   HIT RATE   SPENT
    app   4   50%   [time]
    tools   4   75%   [time]

    SLOWEST STEPS   RAN   HIT RATE   MEDIAN   CPU   MEMORY   WRITTEN
    [app] RUN sleep $(cat /f); cp /f /made   2   50%   [time]
    [tools] RUN sleep 0.3; echo tools > /tools   1   75%   [time]

    WHAT MADE STEPS RUN   BUILDS   COST
    file changed   1   [time]
    this instruction has not run before   1   [time]

    CRITICAL PATH OF THE LAST BUILD THAT RAN SOMETHING   TOOK   WAITED
    [app 1/1] RUN --mount=type=bind,source=file,target=/f sleep $(cat /…   [time]

    LAYERS OF THE LAST IMAGES   FILES   SIZE

    LARGEST FILES OF THE CONTEXT   SIZE
    file   [size]

    app (linux/amd64): [size], 3 layers
    context: 1 file, [size]

    ✓ budget clean: [time] (≤ [time])
    - budget cached: too few builds yet (≤ [time])
    ✗ budget hit-rate: 83.3% (≥ 95.0%)
    --- stderr
    ");
    assert_snapshot!(reported(&project, &["--format=markdown"]), @r"
    status: 0
    --- stdout
    ## Build performance

    4 builds, 5 of 8 steps cached (**62%**)

    | Budget | Found | Allowed |  |
    | --- | ---: | ---: | --- |
    | clean | [time] | ≤ [time] | ✅ |
    | cached | too few builds yet | ≤ [time] |  |
    | hit-rate | 83.3% | ≥ 95.0% | ❌ |

    | Builds | Count | Median | Last | Trend |
    | --- | ---: | ---: | ---: | --- |
    | clean | 1 | [time] | [time] | ▅ |
    | edit | 1 | [time] | [time] | ▅ |
    | cached | 2 | [time] | [time] | ▅▅ |

    | Stage | Steps | Hit rate | Spent |
    | --- | ---: | ---: | ---: |
    | app | 4 | 50% | [time] |
    | tools | 4 | 75% | [time] |

    | Slowest steps | Ran | Hit rate | Median | Cpu | Memory | Written |
    | --- | ---: | ---: | ---: | ---: | ---: | ---: |
    | [app] RUN sleep $(cat /f); cp /f /made | 2 | 50% | [time]
    | [tools] RUN sleep 0.3; echo tools > /tools | 1 | 75% | [time]

    | What made steps run | Builds | Cost |
    | --- | ---: | ---: |
    | file changed | 1 | [time] |
    | this instruction has not run before | 1 | [time] |

    | Critical path of the last build that ran something | Took | Waited |
    | --- | ---: | ---: |
    | [app 1/1] RUN --mount=type=bind,source=file,target=/f sleep $(cat /f); cp /f /made | [time]

    | Layers of the last images | Files | Size |

    | Largest files of the context | Size |
    | --- | ---: |
    | file | [size] |

    Context: 1 file, [size]
    --- stderr
    ");
    assert_snapshot!(reported(&project, &["--compare", "@3", "@1"]), @r"
    status: 0
    --- stdout
      b1   b3   CHANGE
    in all   [time]   [time]   ±%
    image size   [size]   [size]
    layers   3   3
    [tools] RUN sleep 0.3; echo tools > /tools   [time]   cached   ±%
    [app] RUN --mount=type=bind,source=file,target=/f sleep…   [time]   [time]   ±%
    --- stderr
    ");
}

#[test]
fn report_error() {
    assert_snapshot!(project().shown(&["report"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-build]: the history of the store has no build
     help: every `kiln build` is kept there
    ");
    let project = measured();
    project.write(
        "kiln.toml",
        "[budget]\nclean = \"1h\"\ncached = \"1h\"\n[budget.app]\nlayers = 1\n",
    );
    assert_snapshot!(reported(&project, &["--check"]), @r"
    status: 1
    --- stdout
    [dir]/app/Dockerfile: 4 builds
    5 of 8 steps cached (62%)

    BUILDS   COUNT   MEDIAN   LAST   TREND
    clean   1   [time]   [time]   ▅
    edit   1   [time]   [time]   ▅
    cached   2   [time]   [time]   ▅▅

    STAGE   STEPS   HIT RATE   SPENT
    app   4   50%   [time]
    tools   4   75%   [time]

    SLOWEST STEPS   RAN   HIT RATE   MEDIAN   CPU   MEMORY   WRITTEN
    [app] RUN sleep $(cat /f); cp /f /made   2   50%   [time]
    [tools] RUN sleep 0.3; echo tools > /tools   1   75%   [time]

    WHAT MADE STEPS RUN   BUILDS   COST
    file changed   1   [time]
    this instruction has not run before   1   [time]

    CRITICAL PATH OF THE LAST BUILD THAT RAN SOMETHING   TOOK   WAITED
    [app 1/1] RUN --mount=type=bind,source=file,target=/f sleep $(cat /…   [time]

    LAYERS OF THE LAST IMAGES   FILES   SIZE

    LARGEST FILES OF THE CONTEXT   SIZE
    file   [size]

    app (linux/amd64): [size], 3 layers
    context: 1 file, [size]

    ✓ budget clean: [time] (≤ 1h00m)
    - budget cached: too few builds yet (≤ 1h00m)
    ✗ budget hit-rate: 83.3% (≥ 95.0%)
    ✗ budget layers: 3 (≤ 1)
    --- stderr
    error[over-budget]: 2 budgets are not kept
     help: [budget] of kiln.toml says what builds may take; `kiln report` what they take
    ");
    project.write("kiln.toml", "[budget]\ncleann = \"1s\"\n");
    assert_snapshot!(project.shown(&["report", "--check"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[invalid-settings]: [dir]/kiln.toml: [budget] has no `cleann`; its keys are clean, cached, hit-rate, image-size, layers
    ");
}

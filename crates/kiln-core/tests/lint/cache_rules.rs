//! kiln's own rules.

use std::collections::BTreeSet;

use super::support::{Setting, table};

fn found(rule: &str, text: &str) -> bool {
    !Setting::default().of(rule, text).is_empty()
}

#[test]
fn bases() {
    table(
        "UnpinnedBase",
        &[
            (
                "FROM python",
                "1: base image `python` is whatever `latest` means on the day of the build",
            ),
            (
                "ARG T=latest\nFROM python:$T",
                "2: base image `python:latest` is whatever `latest` means on the day of the build",
            ),
            ("FROM python:3.12", ""),
            ("FROM scratch AS python\nFROM python\nFROM 0", ""),
            ("FROM a@sha256:0000000000000000000000000000000000000000000000000000000000000000", ""),
        ],
    );
    let named_contexts = BTreeSet::from(["python".to_owned()]);
    let setting = Setting { named_contexts, ..Setting::default() };
    assert_eq!(setting.of("UnpinnedBase", "FROM python"), "");
}

#[test]
fn apt() {
    let run = |script: &str| found("AptUpdateAlone", &format!("FROM a:1\nRUN {script}"));
    for script in [
        "apt-get update",
        "apt-get -y update",
        "set -e; apt update && echo done",
        "[\"apt-get\", \"update\"]",
        "[\"sh\", \"-c\", \"apt-get update\"]",
        "<<E\napt-get update\nE",
    ] {
        assert!(run(script), "{script}");
    }
    for script in [
        "apt-get update && apt-get install -y curl",
        "apt-get update -qq; DEBIAN_FRONTEND=noninteractive /usr/bin/apt-get upgrade",
        "echo apt-get update",
        "<<E\napt-get update\napt-get install x\nE",
        "apt-get install x",
    ] {
        assert!(!run(script), "{script}");
    }
}

#[test]
fn cache_mounts() {
    let stage = |before: &str, target: &str, script: &str| {
        let text = format!("FROM a:1\n{before}\nRUN --mount=type=cache,target={target} {script}");
        found("CacheMountNotToolCache", &text)
    };
    for (before, target, script) in [
        ("", "/root/.cache/pip", "uv sync"),
        ("", "/root/.cache/uv", "pip install -r r.txt"),
        ("ENV UV_CACHE_DIR=/opt/uv", "/root/.cache/uv", "uv sync"),
        ("ENV PIP_CACHE_DIR=/opt/pip", "/root/.cache/pip", "python3 -m pip install x"),
        ("", "/var/cache/yum", "apt-get update && apt-get install x"),
        ("", "/app/node_modules", "npm ci"),
        ("", "/root/.cache/uv", "UV_CACHE_DIR=/c uv sync"),
        ("", "/root/.cache/uv", "uv --cache-dir /c sync"),
        ("ENV HOME=/h", "/root/.npm", "npm ci"),
        ("USER app", "/root/.cache/uv", "uv sync"),
        ("WORKDIR /w", "cargo", "cargo build"),
        ("", "/root/.cache", "go build"),
    ] {
        // A directory above the one that go uses is fine.
        let expected = script != "go build";
        assert_eq!(stage(before, target, script), expected, "{before} {target} {script}");
    }
    for (before, target, script) in [
        ("", "/root/.cache/uv", "uv sync"),
        ("", "/root/.cache", "uv sync && pip install x"),
        ("", "/home/app/.cache/uv", "uv sync"),
        ("USER app", "/home/app/.cache/uv", "uv sync"),
        ("ENV UV_CACHE_DIR=/opt/uv", "/opt/uv", "uv sync"),
        ("ARG C=/opt/uv\nENV UV_CACHE_DIR=$C", "$C", "uv sync"),
        ("", "/c", "UV_CACHE_DIR=/c uv sync"),
        ("", "/c", "uv sync --cache-dir=/c"),
        ("ENV HOME=/h", "/h/.npm", "npm ci"),
        ("", "/var/lib/apt/lists", "apt-get update && apt-get install x"),
        ("", "/var/cache/apt", "apt-get update && apt-get install x"),
        ("", "/usr/local/cargo/registry", "cargo build"),
        ("WORKDIR /w", "/w/target", "cargo build"),
        ("", "/app/target", "cargo build"),
        ("ENV CARGO_HOME=/ch", "/ch/git", "cargo build"),
        ("", "/go/pkg/mod", "go build"),
        ("", "/root/.cache/go-build", "go build"),
        ("ENV GOMODCACHE=/m", "/m", "go build"),
        ("ENV XDG_CACHE_HOME=/x", "/x/uv", "uv sync"),
        // No known tool, or a target that only the build knows.
        ("", "/anything", "make"),
        ("ARG D", "$D/x", "uv sync"),
    ] {
        assert!(!stage(before, target, script), "{before} {target} {script}");
    }
    // Each tool has its own; the other mount is for something else.
    let two = "FROM a:1\nRUN --mount=type=cache,target=/root/.cache/uv --mount=type=cache,target=/ccache uv sync";
    assert!(!found("CacheMountNotToolCache", two));
    table(
        "CacheMountNotToolCache",
        &[(
            "FROM a:1\nRUN --mount=type=cache,target=/root/.cache/pip uv sync",
            "2: cache mount `/root/.cache/pip` is not the cache directory of uv, which is `/root/.cache/uv`: nothing is kept",
        )],
    );
}

#[test]
fn whole_roots() {
    let build = "FROM a:1 AS build\nFROM a:1\nCOPY ";
    for copy in ["--from=build / /", "--from=0 /./ /x/", "--from=image:1 / /", "--from=build . /"] {
        assert!(found("CopyWholeRoot", &format!("{build}{copy}")), "{copy}");
    }
    for copy in ["--from=build /usr/ /usr/", ". /", "--from=build /* /"] {
        assert!(!found("CopyWholeRoot", &format!("{build}{copy}")), "{copy}");
    }
    // What is made from nothing holds what was put there.
    let artifact = "FROM scratch AS a\nCOPY x /\nFROM a AS b\nFROM a:1\nCOPY --from=b / /";
    assert!(!found("CopyWholeRoot", artifact));
}

#[test]
fn source_before_dependencies() {
    let stage =
        |lines: &str| found("SourceCopiedBeforeDependencies", &format!("FROM a:1\n{lines}"));
    for lines in [
        "COPY . .\nRUN npm ci",
        "COPY . /app\nRUN npm install",
        "ADD ./ /app/\nRUN pip install --no-cache-dir -r requirements.txt",
        "COPY . .\nRUN cd app && uv sync --frozen",
        "COPY . .\nRUN go mod download",
        "COPY --chown=a:b . .\nRUN yarn",
        "COPY . .\nRUN bundle install",
    ] {
        assert!(stage(lines), "{lines}");
    }
    for lines in [
        "COPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm run build",
        "COPY pyproject.toml uv.lock ./\nRUN uv sync --no-install-project\nCOPY . .\nRUN uv sync",
        "COPY . .\nRUN npm install -g x",
        "COPY . .\nRUN npm install express",
        "COPY . .\nRUN pip install .",
        "COPY . .\nRUN go build",
        "COPY --from=x . .\nRUN npm ci",
        "COPY src .\nRUN npm ci",
        "COPY . .\nRUN yarn build",
    ] {
        assert!(!stage(lines), "{lines}");
    }
    table(
        "SourceCopiedBeforeDependencies",
        &[(
            "FROM a:1\nCOPY . .\nRUN npm ci",
            "2: the whole context is copied before `npm ci`: every edit installs all dependencies again",
        )],
    );
}

//! ADD of git repositories.

use crate::fixture::Project;
use crate::web::{COMMITTED, Web};

const FILES: [(&str, &str); 3] = [("a", "one"), ("dir/b", "two"), (".gitattributes", "")];

#[test]
fn an_unchanged_reference_costs_one_question_and_a_commit_none() {
    let web = Web::start();
    let commit = web.commit("x", &FILES);
    let project = Project::new("FROM base\nARG URL\nADD $URL /x\nRUN find /x -type f | sort\n");
    let argument = |end: &str| format!("URL={}/x.git{end}", web.url);
    let run = project.build(&["--build-arg", &argument("#main")]);
    assert!(run.stderr.contains("/x/.gitattributes"), "{}", run.stderr);
    assert!(run.stderr.contains("/x/dir/b"), "{}", run.stderr);
    web.requests();
    project.build(&["--build-arg", &argument("#main")]).assert_cached();
    let asked = web.requests();
    assert!(
        asked.iter().all(|path| path.contains("/info/refs") || path.contains("HEAD")),
        "{asked:?}"
    );

    // The commit by its own name is the same content.
    project.build(&["--build-arg", &argument(&format!("#{commit}"))]);
    assert_eq!(web.requests(), [""; 0]);

    web.commit("x", &[("a", "three")]);
    let run = project.build(&["--build-arg", &argument("#main")]);
    assert!(!run.steps().iter().any(|(name, how)| name.contains("ADD") && how == "CACHED"));
    project.assert_whole();
}

#[test]
fn a_part_a_repository_and_submodules() {
    let web = Web::start();
    let inner = web.commit("inner", &[("i", "inner")]);
    web.commit("x", &FILES);
    let modules = "[submodule \"m\"]\n\tpath = dir/m\n\turl = ../inner.git\n";
    web.commit("x", &[(".gitmodules", modules)]);
    let link = format!("160000,{inner},dir/m");
    web.git("x", &["update-index", "--add", "--cacheinfo", &link]);
    web.git("x", &["commit", "-q", "-m", "with a module"]);
    let project = Project::new(
        "FROM base\nARG URL\nADD $URL?subdir=dir /part\nADD --keep-git-dir $URL /kept\n\
         ADD $URL?submodules=0 /without\n\
         RUN cat /part/b /part/m/i /part/m/.git; ls /without/dir/m | wc -l; \
         cat /kept/.git/config /kept/dir/m/i; stat -c '%a %u %n' /part/m /part/b\n",
    );
    let argument = format!("URL={}/x.git", web.url);
    let run = project.build(&["--build-arg", &argument]);
    for text in [
        "twoinnergitdir: ../../.git/modules/dir/m",
        &format!("url = {}/x.git", web.url),
        "755 0 /part/m",
        "644 0 /part/b",
    ] {
        assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
    }
    project.build(&["--build-arg", &argument]).assert_cached();
}

#[test]
fn tokens_are_sent_and_kept_nowhere() {
    const TOKEN: &str = "canary-of-git";
    let web = Web::start();
    web.commit("x", &FILES);
    // base64 of `x-access-token:canary-of-git`
    web.ask_for("basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LW9mLWdpdA==");
    let project = Project::new("FROM scratch\nARG URL\nADD --keep-git-dir $URL /x\n");
    let argument = format!("URL={}/x.git", web.url);
    let refused = project.failure(&["--build-arg", &argument]);
    assert!(refused.contains("GIT_AUTH_TOKEN"), "{refused}");
    let host = web.url.trim_start_matches("http://");
    for id in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{host}")] {
        let secret = format!("id={id},src=token");
        project.write("token", TOKEN);
        let run = project.build(&["--no-cache", "--secret", &secret, "--build-arg", &argument]);
        assert!(!run.stderr.contains(TOKEN), "{}", run.stderr);
    }
    let found = std::process::Command::new("grep")
        .args(["-rlE", "canary-of-git|eC1hY2Nlc3M"])
        .arg(project.store())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[test]
fn what_cannot_be_had_is_named() {
    let web = Web::start();
    web.commit("x", &FILES);
    let project = Project::new("");
    let failure = |line: &str| {
        let line = line.replace("URL", &format!("{}/x.git", web.url));
        project.dockerfile(&format!("FROM scratch\n{line}\n"));
        project.failure(&[])
    };
    for (line, message) in [
        ("ADD URL#nope /x", "repository does not contain ref nope"),
        ("ADD URL#:nope /x", "invalid subdir nope: failed to lstat \"nope\""),
        ("ADD URL#:a /x", "git subpath \"a\" contains non-directory \"a\""),
        ("ADD --checksum=0000 URL#main /x", "expected checksum to match 0000"),
        ("ADD --checksum=zz URL /x", "expected hex commit hash"),
        ("ADD --checksum=00 a /x", "checksum requires HTTP(S) or Git sources"),
        ("ADD URL?tag=a&branch=b /x", "branch conflicts with tag"),
        ("ADD --keep-git-dir=false URL?keep-git-dir /x", "inconsistent keep-git-dir"),
        ("COPY URL /x", "source can't be a git ref for COPY"),
        ("COPY http://localhost/x /x", "source can't be a URL for COPY"),
        ("ADD URLx.git /x", "failed to fetch remote"),
    ] {
        let shown = failure(line);
        assert!(shown.contains(message) && shown.contains("Dockerfile:2:"), "{line}: {shown}");
    }
    project.dockerfile(&format!("FROM scratch\nADD {}/x.git /x\n", web.url));
    let mut command = project.build_command(&[]);
    let run = crate::fixture::run(command.env("PATH", "/nowhere"));
    assert!(run.stderr.contains("`git` is not installed"), "{}", run.stderr);
    assert_eq!(COMMITTED, 1_600_000_000);
}

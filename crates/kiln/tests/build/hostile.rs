//! A Dockerfile, a context or an image from elsewhere cannot touch the host.

use std::fs;
use std::os::unix::fs::symlink;

use kiln_testkit::oci::{Compression, TestImage};

use crate::fixture::{Project, busybox, is_root};

#[test]
fn links_of_a_context_do_not_lead_out_of_it() {
    let project = Project::new("FROM base\nCOPY link/passwd /stolen\n");
    project.write("outside/passwd", "of the host");
    symlink("../outside", project.at("app/link")).unwrap();
    insta::assert_snapshot!(project.failure(&[]), @r"
    exit 1
    error[copy-failed]: `/link/passwd`: not found (no such file or directory)
      --> app/Dockerfile:2:1   step 2 of 2
     2 | COPY link/passwd /stolen
       | ^^^^^^^^^^^^^^^^^^^^^^^^
    ");
    for (target, source) in [
        (project.at("outside/passwd"), "COPY absolute /stolen"),
        (project.at("outside"), "COPY absolute/passwd /stolen"),
        ("../../../../../../../../etc".into(), "COPY absolute/passwd /stolen"),
    ] {
        project.dockerfile(&format!("FROM base\n{source}\n"));
        let _ = fs::remove_file(project.at("app/absolute"));
        symlink(&target, project.at("app/absolute")).unwrap();
        project.try_build(&[]).expect_code(1);
    }
    project.dockerfile("FROM base\nCOPY ../outside/passwd /stolen\n");
    project.try_build(&[]).expect_code(1);
    project.dockerfile("FROM base\nRUN --mount=type=bind,source=link,target=/m cat /m/passwd\n");
    project.try_build(&[]).expect_code(1);
    // A link is copied as a link when the directory that it is in is copied.
    project
        .dockerfile("FROM base\nCOPY . /all\nRUN readlink /all/link; ls /all/link/ 2>&1; true\n");
    let run = project.build(&[]);
    assert!(!run.output().contains("passwd"), "{}", run.output());
}

#[test]
fn links_of_an_image_do_not_lead_out_of_it() {
    let project = Project::new(
        "FROM base AS evil\nRUN ln -s / /root/up; ln -s /../../../../.. /out; ln -s /proc/self/cwd /cwd\n\
         FROM evil\n\
         COPY Dockerfile /out/tmp/one\n\
         COPY Dockerfile /root/up/tmp/two\n\
         COPY --from=evil /out/etc/passwd /three\n\
         WORKDIR /out/made\n\
         COPY --chown=0:0 Dockerfile /cwd/four\n\
         RUN ls /tmp; test -d /made; grep -c alice /three\n",
    );
    let run = project.build(&[]);
    assert_eq!(run.output(), "one\ntwo\n1\n");
    assert!(!project.at("made").exists() && !std::path::Path::new("/made").exists());
}

#[test]
fn a_mount_does_not_lead_out_of_the_image() {
    let project = Project::new(
        "FROM base\nRUN ln -s /../../../../../.. /out; ln -s /out/tmp /dir\n\
         RUN --mount=type=cache,target=/dir/a --mount=type=tmpfs,target=/out/tmp/b \
         --mount=type=secret,id=s,target=/out/c ls /tmp /c\n",
    );
    project.write("secret", "some secret");
    let run = project.build(&["--secret=id=s,src=secret"]);
    assert_eq!(run.output(), "/c\n\n/tmp:\na\nb\n");
    assert!(!std::path::Path::new("/c").exists());
}

/// A tar with one file under a name that a library would refuse to write.
fn tar_with(name: &str, link: Option<&str>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, link: Option<&str>| {
        let mut header = tar::Header::new_ustar();
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(tar::EntryType::Symlink);
        }
        header.set_mode(0o644);
        let content: &[u8] = if link.is_some() { b"" } else { b"evil" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    };
    if let Some(link) = link {
        add("door", Some(link));
    }
    add(name, None);
    archive.into_inner().unwrap()
}

#[test]
fn layers_of_an_image_do_not_write_outside() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("evil");
    let up = format!("../../../../../../../../../..{}", absolute.display());
    for (name, link) in [
        (up.as_str(), None),
        (absolute.to_str().unwrap(), None),
        ("door/evil", Some(outside.path().to_str().unwrap())),
        ("a/../../../../x", None),
    ] {
        let project = Project::new("FROM evil\nCOPY Dockerfile /\n");
        let image = TestImage::new().layer_of_tar(tar_with(name, link), Compression::Gzip);
        image.write_layout(&project.at("layout"));
        let run = project.try_build(&["--build-context=evil=oci-layout://layout", "-o", "out"]);
        assert!(!absolute.exists(), "{name}");
        assert!(run.code() == 0 || run.code() == 1, "{name}: {}", run.stderr);
        project.assert_whole();
    }
}

#[test]
fn a_layout_does_not_name_files_outside() {
    let project = Project::new("FROM evil\nRUN true\n");
    busybox().write_layout(&project.at("layout"));
    let index = project.read("layout/index.json");
    let digest = index.split("sha256:").nth(1).unwrap()[..64].to_owned();
    project.write("layout/index.json", &index.replace(&digest, "../../../secret"));
    project.write("secret", "{}");
    let context = "--build-context=evil=oci-layout://layout";
    let shown = project.failure(&[context]);
    assert!(shown.starts_with("exit 1\n"), "{shown}");
    // Nor are bytes taken for what their name says.
    project.write("layout/index.json", &index);
    fs::write(project.at("layout/blobs/sha256").join(&digest), b"{}").unwrap();
    insta::assert_snapshot!(project.failure(&[context]), @r"
    exit 1
    error[image-unavailable]: layout/blobs/sha256/[digest] does not hold what its name says
     help: the layout is damaged: make it again
    ");
}

#[test]
fn triggers_of_a_base_image_run_in_the_sandbox() {
    let project = Project::new(
        "FROM base\nONBUILD RUN echo trigger > /triggered; mount -t tmpfs x /tmp 2>&1; true\nONBUILD COPY --from=base /etc/passwd /copied\n",
    );
    project.build(&["-t", "trigger"]);
    project.dockerfile("FROM trigger\nRUN cat /triggered; test -e /copied\n");
    let run = project.build(&[]);
    assert!(run.output().ends_with("trigger\n"), "{}", run.output());
}

#[test]
fn a_command_sees_nothing_of_the_host() {
    let project = Project::new(
        "FROM base\n\
         RUN exec 2>&1; ls /proc/1/root/ | tr '\\n' ' '; test ! -e /work; ls /dev | tr '\\n' ' '; \
         cat /proc/self/status | grep -E 'NoNewPrivs|Seccomp:' ; hostname; \
         mknod /tmp/disk b 254 0 2>/dev/null && head -c 1 /tmp/disk >/dev/null 2>&1 && echo read the disk; \
         echo x > /proc/sys/kernel/hostname 2>/dev/null && echo wrote the kernel; \
         ls /proc/kcore >/dev/null && head -c 1 /proc/kcore 2>/dev/null | wc -c; \
         kill -0 -1 2>/dev/null && echo others; env | sort\n",
    );
    let mut command = project.build_command(&[]);
    let run = crate::fixture::run(command.env("HOST_SECRET", "of the host")).expect_code(0);
    assert!(!run.output().contains("HOST_SECRET"));
    insta::assert_snapshot!(run.output(), @r"
    bin dev etc proc root sys tmp fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero NoNewPrivs:	0
    Seccomp:	2
    buildkitsandbox
    /bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system
    ls: /proc/kcore: No such file or directory
    HOME=/root
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    PWD=/
    SHLVL=1
    ");
}

#[test]
fn a_command_cannot_keep_the_build_open() {
    let project = Project::new(
        "FROM base\nRUN (sleep 100 > /dev/null 2>&1 &) ; (sleep 100 &) ; echo done\nRUN echo next\n",
    );
    let run = project.build(&[]);
    assert_eq!(run.output(), "done\nnext\n");
}

#[test]
fn files_that_need_root_are_deleted_with_the_output() {
    if !is_root() {
        return;
    }
    // Directories without any permission, and device files, survive the way through all outputs.
    let project = Project::new(
        "FROM base\nRUN mkdir -p /closed/deep; touch /closed/deep/f; chmod 0 /closed/deep /closed; mkfifo /pipe 2>/dev/null || mknod /pipe p\n",
    );
    project.build(&["-o", "type=tar,dest=a.tar", "-o", "type=oci,dest=b.tar"]);
    project.build(&["-t", "app"]);
    project.assert_whole();
}

#[test]
fn accounts_that_are_no_files_are_none() {
    // A pipe would be read for ever, a device would be the host's.
    let project = Project::new(
        "FROM base\nRUN rm /etc/passwd /etc/group; mknod /etc/passwd p; mkdir /etc/group\n\
         RUN echo $HOME\nUSER 7\nRUN stat -c %u /proc/self/status\nUSER alice\nRUN true\n",
    );
    let run = project.try_build(&[]).expect_code(1);
    assert_eq!(run.output(), "/\n7\n");
    assert!(run.stderr.contains("unable to find user alice"), "{}", run.stderr);
    project.dockerfile(
        "FROM base\nRUN rm /etc/passwd; ln -s /proc/self/mem /etc/passwd\nRUN echo $HOME\n",
    );
    assert_eq!(project.build(&[]).output(), "/\n");
}

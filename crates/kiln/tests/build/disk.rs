//! A store on a disk that is too small.

use std::process::Command;

use kiln_testkit::filters::filter;

use crate::fixture::{KILN, Project, is_root, run};

/// Runs a script with a small file system at `store`, in a mount namespace of its own. `$KILN` is
/// the program and `"$@"` a build.
fn on_a_small_disk(project: &Project, script: &str) -> crate::fixture::Run {
    std::fs::create_dir(project.store()).unwrap();
    let mut command = Command::new("unshare");
    project.set_up(&mut command);
    let script = format!("mount -t tmpfs -o size=6m small store && {script}");
    command.args(["--mount", "--propagation=private", "sh", "-c", &script, "sh", KILN]);
    command.args(Project::build_arguments(&["--progress=quiet"]));
    run(command.env("KILN", KILN))
}

fn full(dockerfile: &str, more: &str) -> String {
    let project = Project::new(dockerfile);
    std::fs::write(project.at("app/big"), vec![b'x'; 8 << 20]).unwrap();
    let script = format!(
        "\"$@\"; echo code $?; \"$KILN\" fsck; echo code $?; rm -f app/big; {more} \
         mount -o remount,size=60m store; echo 'FROM base' > app/Dockerfile; \"$@\"; echo code $?"
    );
    show(&project, &on_a_small_disk(&project, &script))
}

/// What was printed, without the random names of temporary files.
fn show(project: &Project, run: &crate::fixture::Run) -> String {
    let stderr = filter(&run.stderr, &[(project.path(), "[dir]")]);
    let mut shown = String::new();
    for word in stderr.split_inclusive(['/', ':', ' ']) {
        let name = word.trim_end_matches(['/', ':', ' ']);
        let is_random = name.len() >= 32 && name[1..].bytes().all(|b| b.is_ascii_hexdigit());
        let has_pid = name.rsplit_once(".kiln-").is_some_and(|(_, pid)| pid.parse::<u32>().is_ok());
        if is_random {
            shown.extend(["[id]", &word[name.len()..]]);
        } else if has_pid {
            shown.extend([name.rsplit_once('-').unwrap().0, "-[pid]", &word[name.len()..]]);
        } else {
            shown.push_str(word);
        }
    }
    format!("{shown}---\n{}", run.stdout())
}

#[test]
fn a_copy_that_does_not_fit() {
    if is_root() {
        // Which file was the one too many depends on what else was written at that time.
        let shown = full("FROM base\nCOPY big /\n", "");
        let (messages, outcomes) = shown.split_once("---\n").unwrap();
        assert!(messages.starts_with("error[environment]: "), "{shown}");
        assert!(messages.contains("No space left on device (os error 28)"), "{shown}");
        assert!(messages.contains("help: free some space"), "{shown}");
        assert!(outcomes.starts_with("code 3\n"), "{shown}");
        assert!(outcomes.ends_with(": whole\ncode 0\ncode 0\n"), "{shown}");
    }
}

#[test]
fn a_command_whose_files_do_not_fit() {
    if is_root() {
        let dockerfile = "FROM base\nRUN dd if=/dev/zero of=/big bs=64k count=200 2>&1 | grep -v records\n\
                          RUN test $(stat -c %s /big) = 13107200\n";
        insta::assert_snapshot!(full(dockerfile, ""), @r"
        error[environment]: cannot write [dir]/store/tmp/[id]/[id]/layer/index: No space left on device (os error 28)
         help: free some space, or put the store elsewhere with `KILN_ROOT`
        ---
        code 3
        0 images, 1 layer, 1 blob, 0 cache records: whole
        code 0
        code 0
        ");
    }
}

#[test]
fn a_base_that_does_not_fit() {
    if is_root() {
        let project = Project::new("FROM base\nRUN true\n");
        let script = "mount -o remount,size=3m store; \"$@\"; echo code $?; \"$KILN\" fsck; \
                      mount -o remount,size=60m store; \"$@\"; echo code $?";
        let run = on_a_small_disk(&project, script);
        insta::assert_snapshot!(show(&project, &run), @r"
        error[environment]: cannot write [dir]/store/tmp/[id]/[id]/layer/fs/bin/busybox: No space left on device (os error 28)
         help: free some space
        ---
        code 3
        0 images, 0 layers, 1 blob, 0 cache records: whole
        code 0
        ");
    }
}

#[test]
fn an_output_that_does_not_fit() {
    if is_root() {
        let project = Project::new("FROM base\nRUN true\n");
        let script = "mount -o remount,size=60m store; mkdir out; \
                      mount -t tmpfs -o size=1m small out; \
                      for o in type=oci,dest=out/a type=local,dest=out/b type=tar,dest=out/c; do \
                      \"$@\" -o $o; echo code $?; done; ls out; \"$KILN\" fsck";
        let run = on_a_small_disk(&project, script);
        insta::assert_snapshot!(show(&project, &run), @r"
        error[environment]: write out/a.kiln-[pid]: No space left on device (os error 28)
         help: free some space
        error[environment]: write bin/busybox: No space left on device (os error 28)
         help: free some space
        error[environment]: cannot write a layer archive: No space left on device (os error 28)
         help: free some space
        ---
        code 3
        code 3
        code 3
        b
        0 images, 2 layers, 4 blobs, 1 cache record: whole
        ");
    }
}

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

/// Builds on it, verifies the store, and builds something smaller once there is room.
fn full(dockerfile: &str) -> String {
    let project = Project::new(dockerfile);
    std::fs::write(project.at("app/big"), vec![b'x'; 8 << 20]).unwrap();
    let script = "\"$@\"; echo code $?; \"$KILN\" fsck; echo code $?; rm -f app/big; \
         mount -o remount,size=60m store; echo 'FROM base' > app/Dockerfile; \"$@\"; echo code $?";
    show(&project, &on_a_small_disk(&project, script))
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

/// What was on the way when the space ran out is not always the same.
#[track_caller]
fn assert_said(shown: &str) {
    assert!(shown.starts_with("error[environment]: "), "{shown}");
    assert!(shown.contains(": No space left on device (os error 28)\n help: free some"), "{shown}");
    let (_, codes) = shown.split_once("---\n").unwrap();
    let lines: Vec<&str> = codes.lines().collect();
    assert!(matches!(lines[..], ["code 3", _, "code 0", "code 0"]), "{shown}");
    assert!(lines[1].ends_with(": whole"), "{shown}");
}

#[test]
fn a_copy_that_does_not_fit() {
    if is_root() {
        assert_said(&full("FROM base\nCOPY big /\n"));
    }
}

#[test]
fn a_command_whose_files_do_not_fit() {
    if is_root() {
        // The command itself does not mind.
        assert_said(&full("FROM base\nRUN dd if=/dev/zero of=/big bs=64k count=200; true\n"));
    }
}

#[test]
fn a_base_that_does_not_fit() {
    if is_root() {
        let project = Project::new("FROM base\nRUN true\n");
        let script = "mount -o remount,size=1536k store; \"$@\"; echo code $?; \"$KILN\" fsck; \
                      mount -o remount,size=60m store; \"$@\"; echo code $?";
        let run = on_a_small_disk(&project, script);
        insta::assert_snapshot!(show(&project, &run), @r"
        error[environment]: cannot write [dir]/store/tmp/[id]/[id]/layer/fs/bin/busybox: No space left on device (os error 28)
         help: free some space
        ---
        code 3
        0 images, 0 layers, 0 blobs, 0 cache records: whole
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

//! Runs one command over a directory that holds a root file system; what it changes is thrown away.
//!
//! `cargo run --example run -- DIRECTORY [USER:GROUP] COMMAND [ARGUMENT…]`, as root or as anybody with user namespaces.
#![expect(clippy::unwrap_used, reason = "an example")]

use std::ffi::OsString;

use kiln_sandbox::user_namespace;
use kiln_sandbox::{Access, ExitStatus, Network, Privileges, Process, Rootfs, Spec, Stdio, spawn};

fn main() {
    user_namespace::enter().unwrap();
    let mut args = std::env::args_os().skip(1).peekable();
    let image = args.next().expect("the first argument is a directory");
    let ids = args
        .peek()
        .and_then(|text| text.to_str()?.split_once(':'))
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    if ids.is_some() {
        args.next();
    }
    let (uid, gid) = ids.unwrap_or((0, 0));
    let changes = tempfile::tempdir().unwrap();
    let [upper, work] = ["upper", "work"].map(|name| changes.path().join(name));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let spec = Spec {
        rootfs: Rootfs { lowers: vec![image.into()], upper, work, access: Access::ReadWrite },
        mounts: Vec::new(),
        process: Process {
            args: args.collect(),
            env: ["PATH", "TERM"]
                .into_iter()
                .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
                .collect(),
            cwd: "/".into(),
            uid,
            gid,
            groups: Vec::new(),
            limits: Vec::new(),
        },
        network: Network::Host,
        hostname: "buildkitsandbox".to_owned(),
        stdio: Stdio::Inherit,
        privileges: Privileges::Default,
        emulator: None,
    };
    let exit = spawn(&spec).unwrap().wait().unwrap();
    drop(changes);
    std::process::exit(match exit.status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    });
}

//! Measures what a sandbox costs: `/bin/true` of busybox, started and waited for, over and over.
//!
//! `cargo run --release --example start_cost [rounds]`, as root or as anybody with user namespaces.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::time::{Duration, Instant};

use kiln_sandbox::user_namespace;
use kiln_sandbox::{Access, ExitStatus, Network, Privileges, Process, Rootfs, Spec, Stdio, spawn};

fn main() {
    let identity = user_namespace::enter().unwrap();
    let rounds: usize = std::env::args().nth(1).map_or(20, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    for name in ["bin", "proc", "sys", "dev"] {
        std::fs::create_dir_all(image.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", image.join("bin/true")).expect("busybox-static is installed");
    let mut times: Vec<Duration> = Vec::new();
    let mut bare: Vec<Duration> = Vec::new();
    for round in 0..rounds {
        let [upper, work] = ["upper", "work"].map(|name| {
            let path = directory.path().join(format!("{name}-{round}"));
            std::fs::create_dir(&path).unwrap();
            path
        });
        let spec = Spec {
            rootfs: Rootfs { lowers: vec![image.clone()], upper, work, access: Access::ReadWrite },
            mounts: Vec::new(),
            process: Process {
                args: vec!["/bin/true".into()],
                env: Vec::new(),
                cwd: "/".into(),
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                limits: Vec::new(),
            },
            network: Network::Host,
            hostname: "buildkitsandbox".to_owned(),
            stdio: Stdio::Piped,
            privileges: Privileges::Default,
            emulator: None,
        };
        let started = Instant::now();
        let exit = spawn(&spec).unwrap().wait().unwrap();
        times.push(started.elapsed());
        assert_eq!(exit.status, ExitStatus::Code(0));

        // The floor, in the same round: the same program without a sandbox.
        let started = Instant::now();
        let status = std::process::Command::new(image.join("bin/true")).status().unwrap();
        bare.push(started.elapsed());
        assert!(status.success());
    }
    times.sort();
    bare.sort();
    let (median, floor) = (times[rounds / 2], bare[rounds / 2]);
    println!("as {identity:?}, {rounds} rounds of `true`, one after another:");
    println!("sandbox  median {median:?}, fastest {:?}, slowest {:?}", times[0], times[rounds - 1]);
    println!("bare     median {floor:?}, fastest {:?}, slowest {:?}", bare[0], bare[rounds - 1]);
    println!("ratio    {:.1}", median.as_secs_f64() / floor.as_secs_f64());
}

//! `kiln doctor`

mod checks;
mod observe;

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::style::{Role, Style};
use crate::session::Session;
use checks::{Check, Status, checks};
use observe::Observed;

/// Look at what kiln needs from this machine, and say what it does without it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln doctor
  kiln doctor --registry ghcr.io")]
pub(crate) struct Doctor {
    /// Ask this registry whether it answers; repeatable
    #[arg(long = "registry", value_name = "HOST")]
    registries: Vec<String>,
}

impl Doctor {
    /// Runs the command; what is missing is a failure, warnings are none.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let mut all = checks(&Observed::look(config));
        if !self.registries.is_empty() {
            let session = Session::open(config)?;
            for host in &self.registries {
                all.push(registry(host, &session.ping_registry(host)));
            }
        }
        let style = if render::terminal::stdout_is_terminal() && !config.no_color() {
            Style::Color
        } else {
            Style::Plain
        };
        render::print_lines(&lines(&all, style));
        match all.iter().filter(|check| check.status == Status::Missing).count() {
            0 => Ok(()),
            problems => Err(Failure::Problems { problems }),
        }
    }
}

fn registry(host: &str, answer: &Result<String, Failure>) -> Check {
    match answer {
        Ok(text) => Check::new(host, Status::Ok, text.clone()),
        Err(failure) => Check::new(host, Status::Missing, failure.to_string())
            .effect("kiln cannot pull from it")
            .todo("check the name, the proxy variables and `kiln login`"),
    }
}

/// One line for each check: name, status, what was seen; below it what follows, if it is not well.
fn lines(checks: &[Check], style: Style) -> Vec<String> {
    let names = checks.iter().map(|check| check.name.chars().count());
    let width = names.max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in checks {
        let (word, role) = match check.status {
            Status::Ok => ("ok", Role::Good),
            Status::Warning => ("warning", Role::Warning),
            Status::Missing => ("missing", Role::Error),
        };
        let word = style.paint(role, &format!("{word:7}"));
        lines.push(format!("{:width$}  {word}  {}", check.name, check.seen));
        let indent = " ".repeat(width + 11);
        if let Some(text) = check.effect {
            lines.push(format!("{indent}{text}"));
        }
        if let Some(text) = &check.todo {
            lines.push(format!("{indent}{} {text}", style.paint(Role::Help, "do:")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_sandbox::emulation::{Execution, Impossible};
    use kiln_sandbox::{Emulator, Machine};
    use observe::{Cgroup, Disk, Overlay};

    fn shown(observed: &Observed) -> String {
        lines(&checks(observed), Style::Plain).join("\n")
    }

    fn missing() -> Execution {
        Execution::Impossible(Impossible::NoEmulator { programs: Vec::new() })
    }

    fn healthy() -> Observed {
        let machine = Machine::named("arm64").expect("it is known");
        let arm64 = Execution::Emulated(Emulator { machine, path: "/usr/bin/qemu".into() });
        Observed {
            kernel: "6.8.0-31-generic".to_owned(),
            is_root: false,
            overlay: Overlay::Works,
            max_user_namespaces: Some(31_000),
            userns_refused_by: None,
            subordinate_ids: (65_536, 65_536),
            id_map_tools: (true, true),
            seccomp: true,
            cgroup: Cgroup::V2,
            disk: Some(Disk {
                path: "/home/u/.local/share/kiln".into(),
                free_bytes: 50_000_000_000,
                total_bytes: 100_000_000_000,
                file_system: "btrfs".to_owned(),
                reflink: Some(true),
            }),
            store: None,
            cpu_hashes_sha256: true,
            credentials: Some("/home/u/.docker/config.json".into()),
            machines: vec![
                ("amd64".to_owned(), Execution::Direct),
                ("386".to_owned(), Execution::Direct),
                ("arm64".to_owned(), arm64),
                ("loong64".to_owned(), missing()),
            ],
        }
    }

    #[test]
    fn a_machine_that_has_everything() {
        insta::assert_snapshot!(shown(&healthy()), @r"
        kernel           ok       Linux 6.8.0-31-generic
        overlayfs        ok       a mount with userxattr works
        user namespaces  ok       ordinary users may make them
        subordinate ids  ok       65536 user ids, 65536 group ids
        newuidmap        ok       newuidmap and newgidmap are there
        seccomp          ok       filters are supported
        cgroup           ok       version 2; steps stay in the group that kiln is started in
        disk             ok       /home/u/.local/share/kiln: btrfs, 50.0GB of 100GB free, copies share blocks
        store            ok       it is as it should be, or will be made
        cpu              ok       it has instructions for sha256
        credentials      ok       /home/u/.docker/config.json
        platforms        ok       RUN works for linux/amd64, linux/386; with an emulator of its own for linux/arm64
        ");
    }

    #[test]
    fn a_machine_that_lacks_everything() {
        let observed = Observed {
            kernel: "4.18.0".to_owned(),
            overlay: Overlay::Fails("operation not permitted".to_owned()),
            max_user_namespaces: Some(0),
            userns_refused_by: Some("kernel.unprivileged_userns_clone"),
            subordinate_ids: (0, 0),
            id_map_tools: (false, true),
            seccomp: false,
            cgroup: Cgroup::None,
            disk: Some(Disk {
                free_bytes: 900_000_000,
                file_system: "nfs".to_owned(),
                reflink: Some(false),
                ..healthy().disk.expect("there")
            }),
            store: Some("file is not a database".to_owned()),
            cpu_hashes_sha256: false,
            credentials: None,
            machines: vec![
                ("amd64".to_owned(), Execution::Direct),
                ("arm64".to_owned(), missing()),
            ],
            ..healthy()
        };
        insta::assert_snapshot!(shown(&observed), @r"
        kernel           missing  Linux 4.18.0
                                  without it kiln cannot mount layers: it uses mount_setattr of 5.12 and overlayfs with userxattr of 5.11
                                  do: use Linux 5.12 or newer
        overlayfs        missing  a mount fails: operation not permitted
                                  without it kiln cannot run steps
                                  do: in a container, allow mounts (docker: `--privileged`, or a looser seccomp and AppArmor profile); else set KILN_ROOT to a local disk
        user namespaces  missing  their number is limited to 0
                                  without it kiln can only build as root
                                  do: sysctl -w user.max_user_namespaces=15000
        subordinate ids  warning  0 user ids, 0 group ids
                                  without it all files of an image belong to one user, and steps for another one fail
                                  do: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER
        newuidmap        warning  not there: newuidmap
                                  without it subordinate ids cannot be used
                                  do: install the package uidmap (Debian) or shadow-utils
        seccomp          missing  the kernel has no filters
                                  without it steps could call any system call, so kiln does not run them
                                  do: use a kernel with CONFIG_SECCOMP_FILTER
        cgroup           ok       not mounted; steps stay in the group that kiln is started in
        disk             warning  /home/u/.local/share/kiln: nfs, 900MB of 100GB free, no reflinks, files are copied
                                  kiln is slow there, and overlayfs may refuse layers
                                  do: set KILN_ROOT to a directory on a local disk
        store            missing  file is not a database
                                  kiln cannot build before it is put right
                                  do: kiln fsck --repair
        cpu              warning  it has no instructions for sha256
                                  without it image digests take longer
        credentials      ok       none: registries are asked anonymously
        platforms        warning  RUN works for linux/amd64
                                  for other platforms kiln needs an emulator
                                  do: apt-get install qemu-user-static, if you build for others
        ");
    }

    #[test]
    fn root_needs_no_subordinate_ids() {
        let observed = Observed {
            is_root: true,
            subordinate_ids: (0, 0),
            id_map_tools: (false, false),
            overlay: Overlay::NotTried,
            ..healthy()
        };
        assert!(!shown(&observed).contains("missing"), "{}", shown(&observed));
    }
}

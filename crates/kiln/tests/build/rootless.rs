//! The same builds by an ordinary user.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::fixture::{EPOCH, KILN, Project, busybox, has_tool, is_root, run};

/// A user of the system, made for one test and removed after it.
struct User {
    name: String,
    id: u32,
}

impl User {
    /// `None` where no user can be made.
    fn new(suffix: &str) -> Option<Self> {
        if !is_root() || !has_tool("useradd") || !has_tool("newuidmap") || !has_tool("setpriv") {
            return None;
        }
        let name = format!("kiln{}{suffix}", std::process::id());
        let _lock = lock_accounts();
        let mut command = Command::new("useradd");
        run(command.args(["--no-create-home", "--no-user-group", "--gid=100", &name]))
            .expect_code(0);
        let id = run(Command::new("id").args(["-u", &name])).expect_code(0).stdout();
        Some(Self { id: id.trim().parse().unwrap(), name })
    }

    /// A line in each of `/etc/subuid` and `/etc/subgid`, or none.
    fn subordinate_ids(&self, range: Option<&str>) {
        let _lock = lock_accounts();
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            let own = format!("{}:", self.name);
            let mut lines: Vec<&str> =
                text.lines().filter(|line| !line.starts_with(&own)).collect();
            let line = range.map(|range| format!("{}:{range}", self.name));
            lines.extend(line.as_deref());
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            // In one go: a test beside this one may be reading it.
            let new = format!("{file}.{}", self.name);
            fs::write(&new, text).unwrap();
            fs::rename(new, file).unwrap();
        }
    }

    /// kiln as this user, in a project that it owns.
    fn kiln(&self, project: &Project, arguments: &[String]) -> Command {
        let mut command = Command::new("setpriv");
        project.set_up(&mut command);
        command.env("SOURCE_DATE_EPOCH", EPOCH).env("USER", &self.name);
        command.args([format!("--reuid={}", self.id), "--regid=100".to_owned()]);
        command.args(["--clear-groups", "--"]);
        // The user may not be able to reach the place where kiln was compiled.
        command.arg(project.at("kiln")).args(arguments);
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _lock = lock_accounts();
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// Tests change the accounts of the system one after the other, whatever process they are in.
fn lock_accounts() -> File {
    let lock = File::create(std::env::temp_dir().join("kiln-test-accounts.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

const DOCKERFILE: &str = "FROM base\n\
    RUN mkdir -p /d/e && echo x > /d/f && chown 1000:50 /d/f && chown -R 7:8 /d/e && chmod 4711 /d/f\n\
    COPY --chown=alice file /d/copied\n\
    USER alice\nRUN id; cat /d/copied\nUSER root\n\
    RUN rm -r /etc/group && mkdir /etc/group && touch /etc/group/now-a-directory\n\
    RUN --mount=type=cache,target=/c,uid=1000,gid=1001 stat -c '%u %g' /c; rm -rf /d/e; mkdir /d/e; touch /d/e/new\n\
    WORKDIR /made\n";

/// A project with its own base and a copy of kiln, given to a user.
fn project(user: Option<&User>, dockerfile: &str) -> Project {
    let project = Project::new(dockerfile);
    project.write("app/file", "content\n");
    busybox().write_layout(&project.at("base"));
    fs::copy(KILN, project.at("kiln")).unwrap();
    fs::set_permissions(project.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(user) = user {
        chown(project.path(), Some(user.id), Some(100)).unwrap();
    }
    project
}

fn build_arguments() -> Vec<String> {
    let arguments = "build --progress=plain --build-context base=oci-layout://base \
                     --output type=oci,dest=image.tar app";
    arguments.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn an_ordinary_user_makes_the_same_image_as_root() {
    let Some(user) = User::new("a") else { return };
    user.subordinate_ids(Some("2000000:65536"));
    let of_root = project(None, DOCKERFILE);
    let mut command = of_root.command(&build_arguments());
    let by_root = run(command.env("SOURCE_DATE_EPOCH", EPOCH)).expect_code(0);
    let of_user = project(Some(&user), DOCKERFILE);
    let by_user = run(&mut user.kiln(&of_user, &build_arguments())).expect_code(0);
    assert_eq!(by_root.output(), by_user.output());
    assert_eq!(by_root.digest(), by_user.digest());
    let images = [&of_root, &of_user].map(|project| fs::read(project.at("image.tar")).unwrap());
    assert!(images[0] == images[1]);
    run(&mut user.kiln(&of_user, &build_arguments())).expect_code(0).assert_cached();
    let fsck = run(&mut user.kiln(&of_user, &["fsck".to_owned()])).expect_code(0);
    assert!(fsck.stdout().ends_with(": whole\n"), "{}", fsck.stdout());
    // And runs it.
    let mut arguments = build_arguments();
    arguments.splice(arguments.len() - 3..arguments.len() - 1, ["-t".to_owned(), "app".to_owned()]);
    run(&mut user.kiln(&of_user, &arguments)).expect_code(0);
    let command = ["run", "-u", "alice", "app", "stat", "-c", "%u %g %a", "/d/f"];
    let container = run(&mut user.kiln(&of_user, &command.map(str::to_owned))).expect_code(0);
    assert_eq!(container.stdout(), "1000 50 4711\n");
}

#[test]
fn without_subordinate_ids_it_is_said_what_does_not_work() {
    let Some(user) = User::new("b") else { return };
    user.subordinate_ids(None);
    let simple =
        project(Some(&user), "FROM base\nRUN echo one > /one; stat -c %u /one\nCOPY file /\n");
    let built = run(&mut user.kiln(&simple, &build_arguments())).expect_code(0);
    assert_eq!(built.output(), "0\n");
    let warning = built.stderr.lines().next().unwrap().to_owned();
    insta::assert_snapshot!(warning, @"warning: only one user id is available (/etc/subuid has no range for this user): files of other owners cannot be made");
    let other = project(Some(&user), "FROM base\nCOPY --chown=alice file /\n");
    // The image has the owner that the file could not get on disk.
    run(&mut user.kiln(&other, &build_arguments())).expect_code(0);
}

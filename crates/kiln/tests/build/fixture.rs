//! A directory with a context, a store and an environment of its own; what kiln printed.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kiln_testkit::filters::filter;
use kiln_testkit::oci::{Compression, TestImage, layer_tar};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program under test.
pub(crate) const KILN: &str = env!("CARGO_BIN_EXE_kiln");

/// Fixed, so that images are equal from run to run.
pub(crate) const EPOCH: &str = "1700000000";

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// The programs of busybox that the tests' images have.
const APPLETS: &str = "sh cat echo ls mkdir touch chmod chown ln rm mv cp date sleep test true pwd \
    false id env grep head seq stat sort wc find tr dd kill mknod readlink hostname tail df";

/// What `busybox_layer` adds to the program itself.
const SYSTEM: &str = "dir bin 0755\ndir etc 0755\ndir tmp 1777\ndir root 0700\n\
    file etc/passwd 0644 root:x:0:0:root:/root:/bin/sh\\nalice:x:1000:1001::/home/alice:/bin/sh\\n\n\
    file etc/group 0644 root:x:0:\\nalice:x:1001:\\nstaff:x:50:alice\\n\n";

/// An image that can run commands.
pub(crate) fn busybox() -> TestImage {
    TestImage::new().layer_of_tar(busybox_layer().to_vec(), Compression::None)
}

/// The layer of [`busybox`].
pub(crate) fn busybox_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let program = fs::read("/bin/busybox").expect("busybox-static should be installed");
        let links: String = APPLETS
            .split_whitespace()
            .map(|name| format!("link bin/{name} -> busybox\n"))
            .collect();
        let mut tar = layer_tar(&format!("{SYSTEM}{links}"));
        // The end of the archive is two empty blocks: the program goes before them.
        tar.truncate(tar.len() - 1024);
        let mut archive = tar::Builder::new(tar);
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(program.len() as u64);
        archive.append_data(&mut header, "bin/busybox", program.as_slice()).unwrap();
        archive.into_inner().unwrap()
    })
}

/// An OCI layout of [`busybox`], made once for all tests; nobody writes to it.
pub(crate) fn base_layout() -> &'static Path {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        let digest = kiln_core::digest::BlobDigest::of(busybox_layer()).hex();
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let layout = parent.join(format!("base-{}", &digest[..16]));
        if !layout.exists() {
            let new = tempfile::tempdir_in(parent).unwrap();
            busybox().write_layout(new.path());
            // Another process may have been faster: then its layout is the same.
            let _ = fs::rename(new.path(), &layout);
        }
        layout
    })
}

/// A context in `app/`, a store, and nothing of the tester's environment.
#[derive(Debug)]
pub(crate) struct Project {
    directory: TempDir,
}

impl Project {
    /// A context with this Dockerfile. `FROM base` is an image that can run commands.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("kiln-test-").tempdir().unwrap();
        let project = Self { directory };
        project.write("app/Dockerfile", dockerfile);
        project
    }

    /// The directory of everything.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path below it.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The store.
    pub(crate) fn store(&self) -> PathBuf {
        self.at("store")
    }

    /// Writes a file, with the directories above it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Replaces the Dockerfile.
    pub(crate) fn dockerfile(&self, text: &str) {
        self.write("app/Dockerfile", text);
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// kiln with these arguments, in the directory.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(KILN);
        self.set_up(&mut command);
        command.args(arguments);
        command
    }

    /// Gives another program the directory and the environment.
    pub(crate) fn set_up(&self, command: &mut Command) {
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("KILN_ROOT", self.store())
            .env("HOME", self.path())
            .stdin(Stdio::null());
    }

    /// The arguments of a build of `app/` over [`busybox`], `extra` ones in front.
    pub(crate) fn build_arguments(extra: &[&str]) -> Vec<String> {
        let base = format!("base=oci-layout://{}", base_layout().display());
        let all = ["build", "--progress=plain", "--build-context", &base];
        all.iter().chain(extra).chain(&["app"]).map(ToString::to_string).collect()
    }

    /// The command of a build.
    pub(crate) fn build_command(&self, extra: &[&str]) -> Command {
        self.command(&Self::build_arguments(extra))
    }

    /// Bakes over [`busybox`], which all targets have as the context `base`.
    pub(crate) fn bake(&self, extra: &[&str]) -> Run {
        let base = format!("*.contexts.base=oci-layout://{}", base_layout().display());
        let all = ["bake", "--progress=plain", "--set", &base];
        run(&mut self.command(&[&all, extra].concat()))
    }

    /// Runs kiln.
    pub(crate) fn kiln(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    /// Builds, however it ends.
    pub(crate) fn try_build(&self, extra: &[&str]) -> Run {
        run(&mut self.build_command(extra))
    }

    /// Builds, and it must succeed.
    pub(crate) fn build(&self, extra: &[&str]) -> Run {
        self.try_build(extra).expect_code(0)
    }

    /// Builds into a directory of files; gives a path in it.
    pub(crate) fn build_files(&self, extra: &[&str]) -> PathBuf {
        let output = self.at("out");
        // A directory that is there keeps what it has.
        let _ = fs::remove_dir_all(&output);
        let option = format!("type=local,dest={}", output.display());
        self.build(&[extra, &["-o", &option]].concat());
        output
    }

    /// A failure as the user sees it, without the progress before it.
    pub(crate) fn failure(&self, extra: &[&str]) -> String {
        let run = self.try_build(&[extra, &["--progress=quiet"]].concat());
        self.show(&run)
    }

    /// Exit code and standard error, with what changes replaced.
    pub(crate) fn show(&self, run: &Run) -> String {
        let text = filter(&run.stderr, &[(self.path(), "[dir]"), (base_layout(), "[base]")]);
        format!("exit {}\n{text}", run.code())
    }

    /// The store must be whole.
    pub(crate) fn assert_whole(&self) {
        let run = self.kiln(&["fsck"]);
        assert!(run.code() == 0 && run.stdout().ends_with(": whole\n"), "{run:?}");
    }

    /// Nothing may be mounted below the directory.
    pub(crate) fn assert_unmounted(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.path().display().to_string();
        let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(&own)).collect();
        assert_eq!(ours, Vec::<&str>::new());
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // Images have directories that not even their owner may change; root does not mind.
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.path()).output();
    }
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    start(command).finish()
}

/// Starts a command whose end is waited for.
pub(crate) fn start(command: &mut Command) -> Started {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    thread::spawn(move || {
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).unwrap() > 0 {
            // Nobody listens any more when the test has failed.
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    Started { child, stdout, lines, stderr: String::new() }
}

/// A program that runs. Nothing in these tests takes long: what does not end is a failure.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    lines: mpsc::Receiver<String>,
    stderr: String,
}

impl Started {
    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it has printed a line with this text.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.stderr.lines().any(|line| line.contains(text)) {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.stderr.push_str(&line),
                Err(error) => panic!("no `{text}` ({error}): {}", self.stderr),
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Run {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.stderr.push_str(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.signal(Signal::KILL);
                    panic!("it does not end: {}", self.stderr);
                }
            }
        }
        let stdout = self.stdout.join().unwrap();
        Run { status: self.child.wait().unwrap(), stdout, stderr: self.stderr }
    }
}

impl Run {
    /// The exit code; of a signal 128 more than its number.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().or(self.status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// Standard output as text.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It must have ended like this.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}\n{}", self.stdout(), self.stderr);
        self
    }

    /// How each step of the Dockerfile came about, in the order of their starts: its instruction
    /// and `CACHED`, `DONE`, `DONE, result unchanged`, `ERROR: …` or `CANCELED`.
    pub(crate) fn steps(&self) -> Vec<(String, String)> {
        let mut steps = Vec::new();
        let name_of = |id: &str| {
            let start = format!("{id} [");
            self.stderr.lines().find_map(|line| line.strip_prefix(&start))
        };
        for line in self.stderr.lines().filter(|line| line.starts_with('#')) {
            let Some((id, text)) = line.split_once(' ') else { continue };
            let end = if text == "CACHED" || text == "CANCELED" || text.starts_with("ERROR: ") {
                text.to_owned()
            } else if text.starts_with("DONE ") {
                let unchanged = text.ends_with(", result unchanged");
                if unchanged { "DONE, result unchanged" } else { "DONE" }.to_owned()
            } else {
                continue;
            };
            if let Some((_, instruction)) = name_of(id).and_then(|name| name.split_once("] "))
                && name_of(id).is_some_and(|name| !name.starts_with("internal"))
            {
                steps.push((instruction.to_owned(), end));
            }
        }
        steps
    }

    /// How the step of an instruction came about, by the start of its text.
    #[track_caller]
    pub(crate) fn step(&self, instruction: &str) -> String {
        let found = self.steps().into_iter().find(|(text, _)| text.starts_with(instruction));
        found.unwrap_or_else(|| panic!("no step `{instruction}`: {}", self.stderr)).1
    }

    /// How all steps came about, one a line.
    pub(crate) fn outcomes(&self) -> String {
        self.steps().into_iter().map(|(text, end)| format!("{text}: {end}\n")).collect()
    }

    /// Every step came from the cache.
    #[track_caller]
    pub(crate) fn assert_cached(&self) {
        let steps = self.steps();
        let all = !steps.is_empty() && steps.iter().all(|(_, end)| end == "CACHED");
        assert!(all, "{}", self.stderr);
    }

    /// Why steps ran, as `because:` says it.
    pub(crate) fn causes(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(|line| Some(line.split_once(" because: ")?.1)).collect()
    }

    /// What commands printed, without number and time.
    pub(crate) fn output(&self) -> String {
        let is_time = |text: &str| {
            text.split_once('.').is_some_and(|(seconds, rest)| {
                seconds.parse::<u32>().is_ok() && rest.len() == 3 && rest.parse::<u32>().is_ok()
            })
        };
        let mut output = String::new();
        for line in self.stderr.lines().filter(|line| line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ').skip(1);
            if parts.next().is_some_and(is_time) {
                output.extend([parts.next().unwrap_or_default(), "\n"]);
            }
        }
        output
    }

    /// The digest of the image, which the summary names last.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let digest = self.stderr.lines().rev().find_map(|line| {
            line.split(' ').find(|word| word.starts_with("sha256:")).map(str::to_owned)
        });
        digest.unwrap_or_else(|| panic!("no digest: {}", self.stderr))
    }
}

/// Whether a tool is there; where it must be (`CI`), its absence is a failure.
pub(crate) fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| {
        let metadata = fs::metadata(directory.join(name));
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
    });
    found || skip(&format!("`{name}` is not installed"))
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() || skip("this needs root")
}

/// Says that something is not tested; gives `false`.
#[expect(clippy::print_stderr, reason = "what is skipped is said")]
fn skip(reason: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("SKIPPED: {reason}");
    false
}

/// A number of seconds that is long, and that no other command of any test sleeps.
pub(crate) fn long_time() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed) + 100)
}

/// Processes that were started with this word, as their command lines; zombies have none.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned())
    });
    lines.filter(|line| line.split(' ').any(|part| part == word)).collect()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

//! A server of files, and git repositories behind it: git's "dumb" protocol is plain files.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// When the commits here were made.
pub(crate) const COMMITTED: i64 = 1_600_000_000;

/// Serves the files of a directory.
pub(crate) struct Web {
    pub(crate) url: String,
    directory: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    /// The `Authorization` that is asked for.
    secret: Arc<Mutex<Option<String>>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let secret = Arc::new(Mutex::new(None));
        let (root, log, wanted) =
            (directory.path().join("files"), Arc::clone(&requests), Arc::clone(&secret));
        std::fs::create_dir(&root).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let wanted = wanted.lock().unwrap().clone();
                log.lock().unwrap().push(answer(&stream, &root, wanted.as_deref()));
            }
        });
        Self { url, directory, requests, secret }
    }

    /// Where a served file is.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("files").join(name)
    }

    /// Nothing is served without this header.
    pub(crate) fn ask_for(&self, authorization: &str) {
        *self.secret.lock().unwrap() = Some(authorization.to_owned());
    }

    /// What was asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// Makes (or makes anew) `NAME.git` with one commit of these files on `main`, above what was
    /// there; gives the commit.
    pub(crate) fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let work = self.directory.path().join(name);
        if !work.exists() {
            std::fs::create_dir(&work).unwrap();
            git(&work, &["init", "-q", "-b", "main"]);
        }
        for (path, text) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "--allow-empty", "-m", "one more"]);
        self.publish(name);
        git(&work, &["rev-parse", "HEAD"])
    }

    /// Runs git where `NAME.git` is made, and serves the result.
    pub(crate) fn git(&self, name: &str, words: &[&str]) -> String {
        let output = git(&self.directory.path().join(name), words);
        self.publish(name);
        output
    }

    fn publish(&self, name: &str) {
        let bare = self.at(&format!("{name}.git"));
        if bare.exists() {
            std::fs::remove_dir_all(&bare).unwrap();
        }
        let work = self.directory.path().join(name);
        git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        git(&bare, &["update-server-info"]);
    }
}

fn git(directory: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "me").env(format!("GIT_{who}_EMAIL"), "me@here");
        command.env(format!("GIT_{who}_DATE"), format!("{COMMITTED} +0000"));
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.current_dir(directory).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn answer(mut stream: &TcpStream, root: &Path, wanted: Option<&str>) -> String {
    let head: Vec<String> = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
    let shown = head.iter().find_map(|line| line.strip_prefix("Authorization: "));
    let file = path.split('?').next().unwrap_or("/").trim_start_matches('/');
    let content = std::fs::read(root.join(file));
    let (status, content) = match content {
        _ if wanted.is_some() && wanted != shown => ("401 Unauthorized", Vec::new()),
        Ok(content) => ("200 OK", content),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = content.len();
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(&[head.into_bytes(), content].concat());
    path
}

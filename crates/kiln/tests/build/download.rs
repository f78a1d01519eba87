//! ADD of files of the web, from a server of our own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::fixture::Project;

const CONTENT: &str = "hello\n";
const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// Serves one text under every path; keeps what it answered, one status a request.
struct Server {
    address: String,
    answered: Arc<Mutex<Vec<u16>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answered = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&answered);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let status = answer(&stream);
                log.lock().unwrap().push(status);
            }
        });
        Self { address, answered }
    }

    fn url(&self, path: &str) -> String {
        format!("URL=http://{}/{path}", self.address)
    }

    fn answered(&self) -> Vec<u16> {
        std::mem::take(&mut self.answered.lock().unwrap())
    }
}

fn answer(mut stream: &TcpStream) -> u16 {
    let mut head = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        head.push_str(&line.to_lowercase());
        head.push('\n');
    }
    let common =
        "Connection: close\r\nETag: \"v1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    let (status, reply) = if head.contains("/missing") {
        (404, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned())
    } else if head.contains("if-none-match: \"v1\"") {
        (304, format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n\r\n"))
    } else {
        let length = CONTENT.len();
        let head = format!("HTTP/1.1 200 OK\r\n{common}\r\nContent-Length: {length}\r\n\r\n");
        (200, head + CONTENT)
    };
    let _ = stream.write_all(reply.as_bytes());
    status
}

#[test]
fn a_file_is_fetched_once_and_asked_for_after() {
    let server = Server::start();
    let project = Project::new(
        "FROM base\nARG URL\nADD $URL /got/\nRUN stat -c '%n %a %u %Y' /got/*; cat /got/*\n",
    );
    let argument = server.url("dir/name.txt?query=1");
    let run = project.build(&["--build-arg", &argument]);
    assert!(run.stderr.contains("/got/name.txt 600 0 784111777"), "{}", run.stderr);
    assert!(run.stderr.contains("hello"), "{}", run.stderr);
    assert_eq!(server.answered(), [200]);
    project.build(&["--build-arg", &argument]).assert_cached();
    assert_eq!(server.answered(), [304]);
}

#[test]
fn a_known_checksum_needs_no_network() {
    let server = Server::start();
    let dockerfile =
        format!("FROM base\nARG URL\nADD --checksum=sha256:{SHA256} --chmod=644 $URL /f\n");
    let project = Project::new(&dockerfile);
    let argument = server.url("f");
    project.build(&["--build-arg", &argument]);
    assert_eq!(server.answered(), [200]);
    project.build(&["--build-arg", &argument]).assert_cached();
    assert_eq!(server.answered(), [0_u16; 0]);

    let wrong = dockerfile.replace("5891", "0000");
    project.dockerfile(&wrong);
    let shown = project.failure(&["--build-arg", &argument]);
    assert!(shown.contains("digest mismatch") && shown.contains("Dockerfile:3:"), "{shown}");
    project.assert_whole();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let server = Server::start();
    let project = Project::new("FROM base\nARG URL\nADD $URL /f\n");
    let shown = project.failure(&["--build-arg", &server.url("missing")]);
    assert!(shown.contains("404") && shown.contains("/missing"), "{shown}");
}

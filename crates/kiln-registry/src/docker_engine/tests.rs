//! An engine that answers from a script, on a socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;

/// Answers one connection after the other; gives what was asked.
fn engine_at(path: &Path, answers: &[&str]) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let text = String::from_utf8(request).unwrap();
            let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            let is_whole = stream.read_exact(&mut body).is_ok();
            let first = text.lines().next().unwrap().to_owned();
            asked.push(if is_whole { first } else { format!("{first} (cut)") });
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    })
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn client(path: &Path) -> DockerEngine {
    DockerEngine::new(EngineAddress::Unix(path.to_owned()), Arc::default())
}

#[test]
fn images_are_looked_up_and_tagged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let (id, layers) = ("sha256:1", r#"{"Type":"layers","Layers":["sha256:a","sha256:b"]}"#);
    let served = engine_at(
        &path,
        &[
            &answer("200 OK", &format!(r#"{{"Id":"{id}","RootFS":{layers},"Other":1}}"#)),
            &answer("404 Not Found", r#"{"message":"No such image: x"}"#),
            &answer("200 OK", &format!(r#"{{"Id":"{id}","RootFS":{{}},"Descriptor":{{}}}}"#)),
            &answer("200 OK", r#"[{"Id":"sha256:1","RepoTags":null}]"#),
            &answer("201 Created", ""),
            &answer("500 Internal Server Error", r#"{"message":"no space left on device"}"#),
        ],
    );
    let engine = client(&path);
    let found = engine.image("docker.io/library/x:1").unwrap().unwrap();
    assert_eq!(
        (found.id.as_str(), found.diff_ids.as_slice()),
        (id, &["sha256:a", "sha256:b"].map(str::to_owned)[..])
    );
    assert_eq!(found.layer_store, LayerStore::Chains);
    assert_eq!(engine.image("x y").unwrap(), None);
    assert_eq!(engine.image(id).unwrap().unwrap().layer_store, LayerStore::Blobs);
    assert_eq!(engine.image_ids().unwrap(), [id]);
    engine.tag(id, &"a/b:1".parse().unwrap()).unwrap();
    let error = engine.image_ids().unwrap_err().to_string();
    assert!(error.ends_with("GET /images/json: no space left on device"), "{error}");
    assert_eq!(
        served.join().unwrap(),
        [
            "GET /images/docker.io/library/x:1/json HTTP/1.1",
            "GET /images/x%20y/json HTTP/1.1",
            "GET /images/sha256:1/json HTTP/1.1",
            "GET /images/json HTTP/1.1",
            "POST /images/sha256:1/tag?repo=docker.io/a/b&tag=1 HTTP/1.1",
            "GET /images/json HTTP/1.1",
        ]
    );
}

#[test]
fn what_goes_wrong_with_a_load_is_in_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let fine = r#"{"stream":"Loaded image: x:1\n"}"#;
    let wrong =
        r#"{"errorDetail":{"message":"open x: no such file"},"error":"open x: no such file"}"#;
    let served = engine_at(
        &path,
        &[
            &answer("200 OK", &format!("{fine}\r\n")),
            &answer("200 OK", &format!("{fine}\n{wrong}\n")),
            &answer("200 OK", r#"{"error":"unexpected EOF"}"#),
            "nonsense",
        ],
    );
    let engine = client(&path);
    let load = |bytes: &[u8]| {
        let mut load = engine.load(4).unwrap();
        load.body().write_all(bytes).unwrap();
        load
    };
    load(b"1234").finish().unwrap();
    let error = load(b"1234").finish().unwrap_err().to_string();
    assert!(error.ends_with("POST /images/load?quiet=1: open x: no such file"), "{error}");
    let mut cut = load(b"12");
    cut.body().flush().unwrap();
    assert!(cut.give_up().unwrap().to_string().ends_with("unexpected EOF"));
    let error = load(b"1234").finish().unwrap_err();
    assert!(matches!(error, DockerEngineError::Exchange { .. }), "{error}");
    let cut = served.join().unwrap();
    assert_eq!(cut[2], "POST /images/load?quiet=1 HTTP/1.1 (cut)");
}

#[test]
fn nobody_there_comes_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let error = client(&path).image("x").unwrap_err();
    assert!(matches!(error, DockerEngineError::Connect { .. }), "{error}");
    assert!(error.help().unwrap().contains("DOCKER_HOST"));
    let address = EngineAddress::Unix(path);
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let denied = DockerEngineError::Connect { address, source };
    assert!(denied.help().unwrap().contains("group"));
}

#[test]
fn a_silent_engine_is_left_when_the_build_is_canceled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let cancelled: Arc<AtomicBool> = Arc::default();
    let engine = DockerEngine::new(EngineAddress::Unix(path), Arc::clone(&cancelled));
    let load = engine.load(0).unwrap();
    cancelled.store(true, Ordering::Relaxed);
    assert!(matches!(load.finish(), Err(DockerEngineError::Cancelled)));
}

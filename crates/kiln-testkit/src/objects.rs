//! Object stores in the test's own process, on a loopback port: a bucket of S3 (path style), GitHub's
//! Actions cache (version 2) and a container of Azure, all on one port.
//!
//! Strict where a real one is: bytes have the hash that is signed, signatures name all headers that
//! count, tokens are shown to the service alone. That signatures are *right* is not computed here
//! (the tests of `kiln_registry` have Amazon's examples).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use kiln_core::digest::BlobDigest;
use serde_json::{Value, json};

use crate::registry::wire::{read_body, read_head};
use crate::registry::{Request, Server};

/// The access key's name; requests of others are refused.
pub const KEY_ID: &str = "AKIDTEST";
/// The token of GitHub's service.
pub const TOKEN: &str = "runtime-token";

/// The answer to a request in place of the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectFault {
    /// This status, with an error of this code.
    Status(u16, &'static str),
    /// Half of the body, then the end of the connection.
    Cut,
}

/// Stores that run until they are dropped.
#[derive(Debug)]
pub struct Objects {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    stopped: AtomicBool,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    /// By path.
    objects: BTreeMap<String, Vec<u8>>,
    /// Keys of GitHub's entries, the newest last; those that are whole.
    entries: Vec<String>,
    faults: Vec<(&'static str, ObjectFault)>,
    log: Vec<String>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A header's value; nothing if it is not there.
fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.header(name).unwrap_or_default()
}

struct Answer(u16, Vec<(String, String)>, Vec<u8>);

impl Answer {
    fn error(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>It is so.</Message></Error>");
        Self(status, Vec::new(), body.into_bytes())
    }

    fn json(value: &Value) -> Self {
        Self(200, Vec::new(), value.to_string().into_bytes())
    }
}

impl Objects {
    /// Starts empty stores.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port should be free");
        let address = listener.local_addr().expect("a listener has an address");
        let (stopped, content) = (AtomicBool::new(false), Mutex::default());
        let state = Arc::new(State { address, stopped, content });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                // A client that goes away is none of the test's business.
                thread::spawn(move || drop(connection(stream, &shared)));
            }
        });
        Self { state }
    }

    /// `http://host:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.state.address)
    }

    /// Method and path of all requests, one a line.
    pub fn log(&self) -> String {
        self.state.lock().log.concat()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state.lock().log.clear();
    }

    /// The paths of all objects.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// Replaces the bytes of objects whose path has this text; `None` takes them away.
    pub fn replace(&self, text: &str, bytes: Option<&[u8]>) {
        let mut content = self.state.lock();
        match bytes {
            None => content.objects.retain(|path, _| !path.contains(text)),
            Some(bytes) => {
                for (_, object) in
                    content.objects.iter_mut().filter(|(path, _)| path.contains(text))
                {
                    *object = bytes.to_vec();
                }
            }
        }
    }

    /// Answers the next request whose `METHOD path` has this text like this.
    pub fn fail(&self, text: &'static str, fault: ObjectFault) {
        self.state.lock().faults.push((text, fault));
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.state.address));
    }
}

fn connection(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read(&mut reader)? {
        let line = format!("{} {}", request.method, request.path);
        let fault = {
            let mut content = state.lock();
            content.log.push(format!("{line}\n"));
            let position = content.faults.iter().position(|(text, _)| line.contains(text));
            position.map(|position| content.faults.remove(position).1)
        };
        let Answer(status, headers, body) = match &fault {
            Some(ObjectFault::Status(status, code)) => Answer::error(*status, code),
            _ => answer(&request, state),
        };
        let mut head = format!("HTTP/1.1 {status} Tested\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method != "HEAD" {
            if fault == Some(ObjectFault::Cut) {
                stream.write_all(&body[..body.len() / 2])?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            stream.write_all(&body)?;
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(mut request) = read_head(reader, Server::Storage)? else { return Ok(None) };
    read_body(reader, &mut request, None)?;
    Ok(Some(request))
}

fn answer(request: &Request, state: &State) -> Answer {
    let authorization = header(request, "authorization");
    if let Some((_, call)) = request.path.split_once("CacheService/") {
        if authorization != format!("Bearer {TOKEN}") {
            return Answer::error(401, "unauthenticated");
        }
        let Ok(message) = serde_json::from_slice(&request.body) else {
            return Answer::error(400, "malformed");
        };
        return github(call, &message, state);
    }
    let refusal = if request.path.starts_with("/bucket/") {
        refusal_of_s3(request)
    } else if request.path.starts_with("/signed/") {
        // The token is for the service alone.
        let is_wrong = !authorization.is_empty() || !request.path.contains("sig=");
        is_wrong.then_some("AuthenticationFailed")
    } else if request.path.starts_with("/container/") {
        let is_signed = authorization.starts_with("SharedKey account:");
        let is_whole =
            request.header("x-ms-date").is_some() && request.header("x-ms-version").is_some();
        (!is_signed || !is_whole).then_some("AuthenticationFailed")
    } else {
        return Answer::error(404, "NoSuchBucket");
    };
    match refusal {
        Some(code) => Answer::error(403, code),
        None => object(request, state),
    }
}

/// What is wrong with a request to S3.
fn refusal_of_s3(request: &Request) -> Option<&'static str> {
    let authorization = header(request, "authorization");
    let credential = format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/");
    if !authorization.starts_with(&credential) {
        return Some("InvalidAccessKeyId");
    }
    let signed =
        authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let signed: Vec<&str> = signed.unwrap_or_default().split(';').collect();
    let counts = |name: &&String| *name == "host" || name.starts_with("x-amz-");
    if !request
        .headers
        .iter()
        .map(|(name, _)| name)
        .filter(counts)
        .all(|name| signed.contains(&name.as_str()))
    {
        return Some("SignatureDoesNotMatch");
    }
    let hash = BlobDigest::of(&request.body).hex();
    (header(request, "x-amz-content-sha256") != hash).then_some("XAmzContentSHA256Mismatch")
}

/// Reads or writes an object.
fn object(request: &Request, state: &State) -> Answer {
    let path = request.bare_path().to_owned();
    let mut content = state.lock();
    if request.method == "PUT" {
        let needs_kind = !path.starts_with("/bucket/");
        if needs_kind && header(request, "x-ms-blob-type") != "BlockBlob" {
            return Answer::error(400, "MissingRequiredHeader");
        }
        content.objects.insert(path, request.body.clone());
        return Answer(201, Vec::new(), Vec::new());
    }
    let Some(bytes) = content.objects.get(&path) else {
        return Answer::error(404, "NoSuchKey");
    };
    // Azure's own header, which its signature covers.
    let is_azure = path.starts_with("/container/");
    let given = header(request, if is_azure { "x-ms-range" } else { "range" });
    let range = given.strip_prefix("bytes=").and_then(|text| text.strip_suffix('-'));
    match range.and_then(|text| text.parse::<usize>().ok()) {
        Some(first) if first < bytes.len() => {
            let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
            Answer(206, vec![("Content-Range".to_owned(), range)], bytes[first..].to_vec())
        }
        _ => Answer(200, Vec::new(), bytes.clone()),
    }
}

/// A call of GitHub's service.
fn github(call: &str, message: &Value, state: &State) -> Answer {
    let (Some(key), Some(64)) =
        (message["key"].as_str(), message["version"].as_str().map(str::len))
    else {
        return Answer::error(400, "malformed");
    };
    let path = |key: &str| format!("/signed/{}", BlobDigest::of(key.as_bytes()).hex());
    let url = |key: &str| format!("http://{}{}?sig=secret", state.address, path(key));
    let mut content = state.lock();
    match call {
        "CreateCacheEntry" if content.entries.iter().any(|known| known == key) => {
            Answer(409, Vec::new(), br#"{"code":"already_exists","msg":"there is one"}"#.to_vec())
        }
        "CreateCacheEntry" => Answer::json(&json!({"ok": true, "signed_upload_url": url(key)})),
        "FinalizeCacheEntryUpload" => {
            let size = content.objects.get(&path(key)).map(|bytes| bytes.len().to_string());
            let is_right = size.as_deref() == message["size_bytes"].as_str() && size.is_some();
            if is_right {
                content.entries.push(key.to_owned());
            }
            Answer::json(&json!({"ok": is_right, "entry_id": "1"}))
        }
        "GetCacheEntryDownloadURL" => {
            let others = message["restore_keys"].as_array().cloned().unwrap_or_default();
            let beginnings: Vec<&str> =
                std::iter::once(key).chain(others.iter().filter_map(Value::as_str)).collect();
            let is_named = |entry: &&String| beginnings.iter().any(|text| entry.starts_with(text));
            match content.entries.iter().rev().find(is_named) {
                Some(entry) => Answer::json(&json!({
                    "ok": true, "signed_download_url": url(entry), "matched_key": entry
                })),
                None => Answer::json(&json!({"ok": false})),
            }
        }
        _ => Answer::error(404, "bad_route"),
    }
}

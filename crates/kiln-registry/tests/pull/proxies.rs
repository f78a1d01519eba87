//! Registries behind a proxy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use kiln_registry::{Client, Config, Error, Proxies};
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::Registry;

use crate::support::{config, reference};

/// A proxy that leads everything to `target`, until the process ends. Returns its address and
/// the heads of the requests it gets.
fn start(target: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, heads) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            let target = target.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
                drop(seen.send(head));
                tunnel(stream, &target);
            });
        }
    });
    (address, heads)
}

fn tunnel(mut client: TcpStream, target: &str) {
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let server = TcpStream::connect(target).unwrap();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(std::net::Shutdown::Write));
        })
    };
    copy(client.try_clone().unwrap(), server.try_clone().unwrap());
    copy(server, client);
}

fn through(proxy: &str) -> Config {
    Config {
        proxies: Proxies {
            http: Some(proxy.to_owned()),
            https: Some(proxy.to_owned()),
            no_proxy: String::new(),
        },
        plain_http_hosts: vec!["registry.invalid".to_owned()],
        ..config()
    }
}

#[test]
fn a_proxy_leads_to_the_registry() {
    let registry = Registry::start();
    let digest = TestImage::new().push(&registry, "app:1").digest;
    let (address, heads) = start(registry.host());
    let client = Client::new(through(&format!("http://user:hunter2@{address}")));
    let resolved = client.resolve(&reference("registry.invalid/app:1")).unwrap();
    assert_eq!(resolved.descriptor.digest, digest);
    let head = heads.recv().unwrap();
    assert!(head.starts_with("CONNECT registry.invalid:80 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic "), "{head}");
    let requests = registry.requests();
    assert_eq!(requests[0].header("host"), Some("registry.invalid"));
    assert_eq!(requests[0].header("proxy-authorization"), None);
}

#[test]
fn loopback_registries_need_no_proxy() {
    let registry = Registry::start();
    TestImage::new().push(&registry, "app:1");
    let (address, heads) = start(registry.host());
    let client = Client::new(through(&address));
    client.resolve(&reference(&registry.reference("app:1"))).unwrap();
    assert!(heads.try_recv().is_err());
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let client = Client::new(through("http://user:hunter2@127.0.0.1:1"));
    let error = client.resolve(&reference("registry.invalid/app:1")).unwrap_err();
    let Error::Unreachable { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().ends_with("(through the proxy 127.0.0.1)"), "{source}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn a_proxy_that_kiln_cannot_use_is_not_passed_by() {
    for proxy in ["socks5://user:hunter2@127.0.0.1:1", "http://user:hunter2@:x/"] {
        let client = Client::new(through(proxy));
        let error = client.resolve(&reference("registry.invalid/app:1")).unwrap_err();
        assert!(matches!(error, Error::Proxy { scheme: "http" }), "{error:?}");
        assert!(!format!("{error} {error:?} {client:?}").contains("hunter2"));
    }
}

//! What containerd's `hosts.toml` says, done.

use std::path::PathBuf;

use kiln_core::oci::Platform;
use kiln_registry::{BlobSource, BlobUpload, Client, Config, Error, Repository, RouteFiles};
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::Registry;

use crate::support::{config, read, reference};

/// A client that reads this `hosts.toml` of a registry.
fn client(registry: &str, hosts: &str) -> (Client, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(registry);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), hosts).unwrap();
    let certificates: Vec<PathBuf> = vec![directory.path().to_owned()];
    let routes = RouteFiles { certificates, ..RouteFiles::default() };
    (Client::new(Config { routes, ..config() }), directory)
}

fn image() -> TestImage {
    TestImage::new().layer("file a 0644 content\n")
}

/// Pulls `own.example/app:1` as a whole.
fn pull(client: &Client) {
    let name = reference("own.example/app:1");
    let pulled = client.image(&name, &Platform::new("linux", "amd64", None)).unwrap();
    let blobs = image().blobs();
    assert!(pulled.manifest_document.bytes == blobs.bytes);
    for (layer, (_, bytes)) in pulled.manifest.layers.iter().zip(&blobs.parts[1..]) {
        assert!(read(client.blob(&pulled.repository, layer).unwrap()).unwrap() == *bytes);
    }
}

#[test]
fn headers_and_namespace_go_to_the_host_they_are_for() {
    let (mirror, origin) = (Registry::start(), Registry::start());
    image().push(&origin, "app:1");
    let (client, _directory) = client(
        "own.example",
        &format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             [host.\"http://{}\".header]\nx-team = \"kiln\"\nX-Two = [\"1\", \"2\"]\n",
            origin.host(),
            mirror.host(),
            mirror.host()
        ),
    );
    pull(&client);
    let requests = mirror.requests();
    assert_eq!(requests.len(), 3, "{}", mirror.log());
    for request in &requests {
        assert!(request.path.ends_with("?ns=own.example"), "{}", request.path);
        assert_eq!(request.header("x-team"), Some("kiln"));
        let two: Vec<&str> = request
            .headers
            .iter()
            .filter(|(name, _)| name == "x-two")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(two, ["1", "2"]);
    }
    for request in origin.requests() {
        assert!(!request.path.contains("ns="), "{}", request.path);
        assert_eq!((request.header("x-team"), request.header("x-two")), (None, None));
    }
}

#[test]
fn a_path_may_take_the_place_of_v2() {
    let mirror = Registry::start();
    image().push(&mirror, "app:1");
    let hosts = |override_path: bool| {
        format!(
            "server = \"http://127.0.0.1:1\"\n[host.\"http://{}/api/docker\"]\n\
             override_path = {override_path}\n",
            mirror.host()
        )
    };
    for (base, override_path) in [("/api/docker", true), ("/api/docker/v2", false)] {
        mirror.serve_below(base);
        mirror.clear_requests();
        let (client, _directory) = client("own.example", &hosts(override_path));
        pull(&client);
        let requests = mirror.requests();
        let start = format!("{base}/app/");
        assert!(requests.iter().all(|request| request.path.starts_with(&start)));
    }
}

/// Pushes a blob and a manifest to `own.example/app`.
fn push(client: &Client) -> Result<(), Error> {
    let repository = Repository { registry: "own.example".to_owned(), name: "app".to_owned() };
    let blobs = image().blobs();
    for (part, bytes) in &blobs.parts {
        let source = &BlobSource::Bytes(bytes.clone());
        let blob = BlobUpload { descriptor: part, source, mount_from: &[], progress: &|_| () };
        client.push_blob(&repository, &blob)?;
    }
    let manifest = (blobs.descriptor.media_type.as_str(), blobs.bytes.as_slice());
    client.push_manifest(&repository, "1", manifest).map(drop)
}

#[test]
fn the_first_host_with_the_capability_is_pushed_to() {
    let [first, second, origin] = [(); 3].map(|()| Registry::start());
    let hosts = |of_second: &str, of_server: &str| {
        format!(
            "server = \"http://{}\"\n{of_server}\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n\
             [host.\"http://{}\"]\n{of_second}\n",
            origin.host(),
            first.host(),
            second.host()
        )
    };
    let pushed = |registry: &Registry| registry.manifest("app", "1").is_some();
    // A host without capabilities has all of them.
    for of_second in ["capabilities = [\"push\"]", ""] {
        second.clear_requests();
        let (client, _directory) = client("own.example", &hosts(of_second, ""));
        push(&client).unwrap();
        assert!(pushed(&second) && first.requests().is_empty() && origin.requests().is_empty());
        assert!(second.requests().iter().any(|request| request.path.ends_with("?ns=own.example")));
    }
    let pulls = "capabilities = [\"pull\", \"resolve\"]";
    let (to_origin, _directory) = client("own.example", &hosts(pulls, ""));
    push(&to_origin).unwrap();
    assert!(pushed(&origin) && !pushed(&first));
    let (to_nobody, _directory) = client("own.example", &hosts(pulls, pulls));
    let error = push(&to_nobody).unwrap_err().to_string();
    let reason = "hosts.toml: no host has the capability `push`, so nothing can be pushed";
    assert!(error.ends_with(reason), "{error}");
}

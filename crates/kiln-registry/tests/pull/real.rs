//! Pulling from the reference implementation of a registry (`docker-registry`, `registry`),
//! filled by `skopeo`, with a certificate of `openssl`.
//!
//! Where these programs are missing, the tests say so and pass; with `CI` set they fail.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kiln_core::oci::Platform;
use kiln_registry::{Client, Config, Error, Login as Shown, RouteFiles};
use kiln_testkit::oci::{Compression, TestImage, index};
use kiln_testkit::registry::{Login, Registry};
use serde_json::json;

use crate::support::{config, read, reference};

const PROGRAMS: &[&str] = &["docker-registry", "skopeo"];

/// Whether all of these programs are there.
fn have(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing on this machine: {missing:?}");
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    {
        eprintln!("SKIPPED: missing on this machine: {missing:?}");
    }
    false
}

fn find(program: &str) -> Option<PathBuf> {
    let names: &[&str] = match program {
        "docker-registry" => &["docker-registry", "registry"],
        _ => &[program],
    };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)))
        .find(|path| path.is_file())
}

fn run(program: &str, directory: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

/// A running registry; ends when dropped.
struct Real {
    child: Child,
    directory: tempfile::TempDir,
    host: String,
}

/// What the registry asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Password,
    Tls,
    MutualTls,
}

/// `user:hunter2`, by `htpasswd -nbB -C 5`.
const HTPASSWD: &str = "user:$2y$05$qwGRMKRb0rD1ny9idVLCceHq7wC94zuUY4bVKN/ifxmcI0tJnaDLy\n";

impl Real {
    fn start(mode: Mode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        // The port is free now; if somebody takes it before the registry does, the test fails.
        let host = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .to_string();
        let mut settings = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": path.join("storage")}},
            "http": {"addr": host},
        });
        match mode {
            Mode::Open => {}
            Mode::Password => {
                fs::write(path.join("htpasswd"), HTPASSWD).unwrap();
                settings["auth"] =
                    json!({"htpasswd": {"realm": "tests", "path": path.join("htpasswd")}});
            }
            Mode::Tls | Mode::MutualTls => {
                make_certificates(path);
                settings["http"]["tls"] =
                    json!({"certificate": path.join("leaf.pem"), "key": path.join("leaf.key")});
                if mode == Mode::MutualTls {
                    settings["http"]["tls"]["clientcas"] = json!([path.join("ca.pem")]);
                }
            }
        }
        // JSON is YAML.
        let settings_path = path.join("config.yml");
        fs::write(&settings_path, settings.to_string()).unwrap();
        let child = Command::new(find("docker-registry").unwrap())
            .arg("serve")
            .arg(&settings_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let real = Self { child, directory, host };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&real.host).is_err() {
            assert!(Instant::now() < end, "the registry does not start");
            thread::sleep(Duration::from_millis(5));
        }
        real
    }

    /// Copies `layout`, which is in the registry's directory, to `app:1`.
    fn push_layout(&self, arguments: &[&str]) {
        let target = format!("docker://{}/app:1", self.host);
        let mut all = vec![
            "--insecure-policy",
            "copy",
            "-q",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ];
        all.extend(arguments);
        all.extend(["oci:layout:1", &target]);
        run("skopeo", self.directory.path(), &all);
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `ca.pem`, and `leaf.pem` and `leaf.key` for 127.0.0.1.
fn make_certificates(directory: &Path) {
    let openssl = |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        run("openssl", directory, &arguments);
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key \
         -out ca.pem -days 2 -subj /CN=ca",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout leaf.key \
         -out leaf.csr -subj /CN=leaf",
    );
    fs::write(
        directory.join("leaf.cnf"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 \
         -extfile leaf.cnf",
    );
}

fn images() -> [TestImage; 2] {
    let image = TestImage::new()
        .layer("dir a 0755\nfile a/b 0644 content\n")
        .layer_as("file big 0644 @random:3000000\n", Compression::Zstd)
        .layer_as("file plain 0644 x\n", Compression::None)
        .config(json!({"Cmd": ["/a/b"]}));
    let arm = image.clone().platform("linux/arm64").layer("file arm 0644 yes\n");
    [image, arm]
}

/// Pulls `app:1` for both platforms and compares every byte with what was pushed.
fn pull_and_compare(real: &Real, config: Config) {
    let client = Client::new(config);
    let reference = reference(&format!("{}/app:1", real.host));
    let pushed = index(&images());
    let resolved = client.resolve(&reference).unwrap();
    assert!(resolved.bytes == pushed.bytes);
    assert_eq!(resolved.descriptor.digest, pushed.descriptor.digest);
    assert_eq!(client.head(&reference).unwrap(), Some(pushed.descriptor.digest));
    for (image, architecture) in images().iter().zip(["amd64", "arm64"]) {
        let platform = Platform::new("linux", architecture, None);
        let pulled = client.image(&reference, &platform).unwrap();
        let blobs = image.blobs();
        assert!(pulled.manifest_document.bytes == blobs.bytes);
        assert_eq!(pulled.config_bytes, blobs.parts[0].1);
        assert_eq!(pulled.manifest.layers.len(), blobs.parts.len() - 1);
        for (layer, (_, bytes)) in pulled.manifest.layers.iter().zip(&blobs.parts[1..]) {
            let reader = client.blob(&pulled.repository, layer).unwrap();
            assert!(read(reader).unwrap() == *bytes);
        }
    }
}

#[test]
fn a_registry_for_everybody() {
    if !have(PROGRAMS) {
        return;
    }
    let real = Real::start(Mode::Open);
    index(&images()).write_layout(&real.directory.path().join("layout"), "1");
    real.push_layout(&[]);
    pull_and_compare(&real, config());
    let client = Client::new(config());
    let missing = reference(&format!("{}/app:2", real.host));
    assert!(matches!(client.resolve(&missing), Err(Error::NotFound { .. })));
    assert!(matches!(client.head(&missing), Err(Error::NotFound { .. })));
}

#[test]
fn a_registry_with_passwords() {
    if !have(PROGRAMS) {
        return;
    }
    let real = Real::start(Mode::Password);
    index(&images()).write_layout(&real.directory.path().join("layout"), "1");
    real.push_layout(&["--dest-creds=user:hunter2"]);
    let logged_in = |password: &str| {
        let login = Login::Basic { user: "user".to_owned(), password: password.to_owned() };
        Registry::write_docker_config_for(&real.host, real.directory.path(), &login);
        Config { docker_config: Some(real.directory.path().to_owned()), ..config() }
    };
    pull_and_compare(&real, logged_in("hunter2"));
    let reference = reference(&format!("{}/app:1", real.host));
    for (config, expected) in
        [(logged_in("wrong"), Shown::Credentials), (config(), Shown::Anonymous)]
    {
        let error = Client::new(config).resolve(&reference).unwrap_err();
        assert!(
            matches!(&error, Error::Unauthorized { login, .. } if *login == expected),
            "{error:?}"
        );
    }
}

#[test]
fn a_registry_with_its_own_certificate_authority() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let real = Real::start(Mode::Tls);
    index(&images()).write_layout(&real.directory.path().join("layout"), "1");
    real.push_layout(&[]);
    let ca = real.directory.path().join("ca.pem");
    let directory = real.directory.path().join("authorities");
    fs::create_dir(&directory).unwrap();
    fs::copy(&ca, directory.join("own.pem")).unwrap();
    fs::write(directory.join("README"), "not a certificate").unwrap();
    for trusting in [
        Config { ca_files: vec![ca.clone()], ..config() },
        Config { extra_ca_files: vec![ca.clone()], ..config() },
        Config { ca_directories: vec![directory], ..config() },
    ] {
        pull_and_compare(&real, trusting);
    }
    let reference = reference(&format!("{}/app:1", real.host));
    let error = Client::new(config()).resolve(&reference).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE"), "{error}");
}

#[test]
fn a_registry_that_wants_a_certificate() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let real = Real::start(Mode::MutualTls);
    let at = |name: &str| real.directory.path().join(name);
    index(&images()).write_layout(&at("layout"), "1");
    let docker = at("docker").join(&real.host);
    fs::create_dir_all(&docker).unwrap();
    for (from, to) in
        [("ca.pem", "ca.crt"), ("leaf.pem", "client.cert"), ("leaf.key", "client.key")]
    {
        fs::copy(at(from), docker.join(to)).unwrap();
    }
    real.push_layout(&["--dest-tls-verify=true", "--dest-cert-dir", docker.to_str().unwrap()]);
    let containerd = at("containerd").join(&real.host);
    fs::create_dir_all(&containerd).unwrap();
    let hosts = format!(
        "server = \"https://{}\"\nca = \"../../ca.pem\"\n\
         client = [[\"../../leaf.pem\", \"../../leaf.key\"]]\n",
        real.host
    );
    fs::write(containerd.join("hosts.toml"), hosts).unwrap();
    let settings =
        |keypair: &str| format!("[registry.\"{}\"]\nca = [\"ca.pem\"]\n{keypair}\n", real.host);
    fs::write(at("kiln.toml"), settings("keypair = [{ cert = \"leaf.pem\", key = \"leaf.key\" }]"))
        .unwrap();
    let with = |routes| Config { routes, ..config() };
    for routes in [
        RouteFiles { certificates: vec![at("docker")], ..RouteFiles::default() },
        RouteFiles { certificates: vec![at("containerd")], ..RouteFiles::default() },
        RouteFiles { user_settings: Some(at("kiln.toml")), ..RouteFiles::default() },
    ] {
        pull_and_compare(&real, with(routes));
    }
    // Without the certificate of the client, or with a key that is none.
    let reference = reference(&format!("{}/app:1", real.host));
    fs::write(at("kiln.toml"), settings("")).unwrap();
    let routes = RouteFiles { user_settings: Some(at("kiln.toml")), ..RouteFiles::default() };
    let error = Client::new(with(routes)).resolve(&reference).unwrap_err();
    assert!(error.to_string().contains(&real.host), "{error}");
    fs::write(docker.join("client.key"), "no key").unwrap();
    let routes = RouteFiles { certificates: vec![at("docker")], ..RouteFiles::default() };
    let error = Client::new(with(routes)).resolve(&reference).unwrap_err();
    assert!(matches!(error, Error::ClientCertificate { .. }), "{error}");
    // The first of several certificates that the registry takes.
    fs::create_dir(at("others")).unwrap();
    make_certificates(&at("others"));
    fs::write(
        at("kiln.toml"),
        settings(
            "keypair = [{ cert = \"others/leaf.pem\", key = \"others/leaf.key\" }, \
             { cert = \"leaf.pem\", key = \"leaf.key\" }]",
        ),
    )
    .unwrap();
    let hosts = format!(
        "server = \"https://{}\"\nskip_verify = true\nclient = [[\"../../others/leaf.pem\", \
         \"../../others/leaf.key\"], [\"../../leaf.pem\", \"../../leaf.key\"]]\n",
        real.host
    );
    fs::write(containerd.join("hosts.toml"), hosts).unwrap();
    fs::copy(at("leaf.key"), docker.join("client.key")).unwrap();
    for ending in ["cert", "key"] {
        let from = if ending == "cert" { "others/leaf.pem" } else { "others/leaf.key" };
        fs::copy(at(from), docker.join(format!("a.{ending}"))).unwrap();
    }
    for routes in [
        RouteFiles { certificates: vec![at("docker")], ..RouteFiles::default() },
        RouteFiles { certificates: vec![at("containerd")], ..RouteFiles::default() },
        RouteFiles { user_settings: Some(at("kiln.toml")), ..RouteFiles::default() },
    ] {
        pull_and_compare(&real, with(routes));
    }
    // Any certificate will do where that is what is wanted.
    let unverified = Real::start(Mode::Tls);
    let text = format!("[registry.\"{}\"]\ninsecure = true\n", unverified.host);
    fs::write(at("kiln.toml"), text).unwrap();
    let routes = RouteFiles { user_settings: Some(at("kiln.toml")), ..RouteFiles::default() };
    let name = format!("{}/app:1", unverified.host).parse().unwrap();
    let error = Client::new(with(routes)).resolve(&name).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let hosts = at("hosts").join(&unverified.host);
    fs::create_dir_all(&hosts).unwrap();
    let routes = RouteFiles { certificates: vec![at("hosts")], ..RouteFiles::default() };
    for (skip_verify, is_reached) in [(true, true), (false, false)] {
        let text =
            format!("server = \"https://{}\"\nskip_verify = {skip_verify}\n", unverified.host);
        fs::write(hosts.join("hosts.toml"), text).unwrap();
        let error = Client::new(with(routes.clone())).resolve(&name).unwrap_err();
        assert_eq!(matches!(error, Error::NotFound { .. }), is_reached, "{error}");
        assert_eq!(matches!(error, Error::Tls { .. }), !is_reached, "{error}");
    }
}

//! Every request of the client with every fault: once, and always.
//!
//! What passes ends well after another attempt, what stays is an error; there are never wrong bytes,
//! never more than a bounded number of requests, and no other host ever sees a credential. What a
//! cell of the matrix cannot have (a body of an answer to HEAD) is said in [`Call::is_harmless`].

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Platform, Reference, media_type};
use kiln_registry::{BlobSource, BlobUpload, Client, Config, Error, Repository, Retries, Timeouts};
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::{Damage, Fault, Login, Registry, Target, Uploads};
use kiln_testkit::tree::random;

/// No cell asks for more; some need a few for what comes before the request at hand.
const MOST_REQUESTS: usize = 40;
const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

/// A registry that wants a login, with an image and a blob, and a client that knows the login.
struct World {
    registry: Registry,
    client: Client,
    image: Descriptor,
    blob: Vec<u8>,
    _docker_config: tempfile::TempDir,
}

impl World {
    fn new(login: &Login, blob_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(250);
        let client = Client::new(Config {
            docker_config: Some(directory.path().to_owned()),
            retries: Retries {
                attempts: 3,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_secs(5),
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                answer: short,
                read: short,
                ..Timeouts::default()
            },
            ..Config::default()
        });
        let registry = Registry::start();
        let image = TestImage::new().layer("file a 0644 one\n").push(&registry, "app:1");
        let blob = random(blob_bytes);
        registry.put_blob("app", &blob);
        registry.require(login.clone());
        registry.write_docker_config(directory.path(), login);
        Self { registry, client, image, blob, _docker_config: directory }
    }

    fn reference(&self) -> Reference {
        self.registry.reference("app:1").parse().unwrap()
    }

    fn repository(&self, name: &str) -> Repository {
        Repository { registry: self.registry.host(), name: name.to_owned() }
    }

    fn descriptor(&self) -> Descriptor {
        let size = self.blob.len() as u64;
        Descriptor::new(media_type::OCI_LAYER, BlobDigest::of(&self.blob), size)
    }

    /// Sends the blob to `new`, perhaps by a mount.
    fn push(&self, mount_from: &[Repository]) -> Result<(), Error> {
        let source = BlobSource::Bytes(self.blob.clone());
        let descriptor = self.descriptor();
        let progress = |_| {};
        let upload = BlobUpload {
            descriptor: &descriptor,
            source: &source,
            mount_from,
            progress: &progress,
        };
        self.client.push_blob(&self.repository("new"), &upload)?;
        assert!(self.registry.blob("new", descriptor.digest).unwrap() == self.blob);
        Ok(())
    }
}

/// A request, and how the client comes to make it.
#[derive(Clone, Copy, Debug)]
enum Call {
    Token,
    IdentityToken,
    HeadOfManifest,
    Manifest,
    Config,
    Blob,
    HeadOfBlob,
    Mount,
    StartOfUpload,
    PartOfUpload,
    EndOfUpload,
    PutOfManifest,
}

impl Call {
    fn login(self) -> Login {
        match self {
            Self::IdentityToken => Login::IdentityToken("1dentity".to_owned()),
            _ => Login::Token { user: "user".to_owned(), password: "hunter2".to_owned() },
        }
    }

    /// What is not longer is sent in one part.
    fn blob_bytes(self) -> usize {
        if matches!(self, Self::PartOfUpload) { 3 << 20 } else { 300_000 }
    }

    fn target(self) -> Target {
        match self {
            Self::Token | Self::IdentityToken => Target::Token,
            Self::HeadOfManifest | Self::Manifest => Target::Manifest,
            Self::Config | Self::Blob | Self::HeadOfBlob => Target::Blob,
            Self::Mount | Self::StartOfUpload => Target::Upload("POST"),
            Self::PartOfUpload => Target::Upload("PATCH"),
            Self::EndOfUpload => Target::Upload("PUT"),
            Self::PutOfManifest => Target::PutManifest,
        }
    }

    /// Does it; what succeeds has the right result.
    fn make(self, world: &World) -> Result<(), Error> {
        let World { client, image, .. } = world;
        match self {
            Self::Token | Self::IdentityToken | Self::Manifest => {
                let resolved = client.resolve(&world.reference())?;
                assert_eq!(resolved.descriptor.digest, image.digest);
                assert_eq!(BlobDigest::of(&resolved.bytes), image.digest);
            }
            Self::HeadOfManifest => match client.head(&world.reference())? {
                Some(found) => assert_eq!(found, image.digest),
                // The registry does not say: whoever asks does without.
                None => return Err(Error::InvalidUrl { url: world.registry.host() }),
            },
            Self::Config => {
                let platform = Platform::new("linux", "amd64", None);
                let found = client.image(&world.reference(), &platform)?;
                assert_eq!(BlobDigest::of(&found.config_bytes), found.manifest.config.digest);
            }
            Self::Blob => {
                let mut reader = client.blob(&world.repository("app"), &world.descriptor())?;
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut bytes)
                    .map_err(|error| Error::from_io(error).expect("an error of this crate"))?;
                assert!(bytes == world.blob);
            }
            Self::HeadOfBlob | Self::StartOfUpload | Self::EndOfUpload => world.push(&[])?,
            Self::Mount => world.push(&[world.repository("app")])?,
            Self::PartOfUpload => {
                let longest_body = Some(1 << 20);
                world.registry.take_uploads(Uploads { longest_body, ..Uploads::default() });
                world.push(&[])?;
            }
            Self::PutOfManifest => {
                let document = (media_type::OCI_INDEX, INDEX);
                let digest = client.push_manifest(&world.repository("new"), "1", document)?;
                assert_eq!(digest, BlobDigest::of(INDEX));
                assert_eq!(world.registry.manifest("new", "1").unwrap().1, INDEX);
            }
        }
        Ok(())
    }

    /// Whether a 2xx answer says by itself that something is there.
    fn is_believed(self) -> bool {
        matches!(self, Self::HeadOfBlob | Self::EndOfUpload | Self::PutOfManifest)
    }

    /// Whether a fault that never ends still lets the call succeed: it damages a body that the
    /// answer does not have or that says nothing, or what it hides was done, and the next question
    /// tells.
    fn is_harmless(self, damage: &Damage) -> bool {
        use Damage::{
            CutAfter, CutBeforeHead, CutInHead, Garbage, Hang, HangHalfway, PromisesMore, Slow,
        };
        let is_of_body = matches!(damage, CutAfter(_) | PromisesMore(_) | HangHalfway);
        match self {
            _ if matches!(damage, Slow(..)) => true,
            Self::Token | Self::IdentityToken | Self::Manifest | Self::Config | Self::Blob => false,
            // It is sent to whoever does not say whether it is there.
            Self::HeadOfBlob => is_of_body || matches!(damage, Damage::Status(400..=428, _)),
            Self::StartOfUpload => is_of_body && *damage != HangHalfway,
            Self::PartOfUpload | Self::EndOfUpload => {
                is_of_body || matches!(damage, Hang | CutBeforeHead | CutInHead | Garbage)
            }
            _ => is_of_body,
        }
    }
}

/// Faults that another attempt may not meet.
fn transient() -> Vec<Damage> {
    vec![
        Damage::CutBeforeHead,
        Damage::CutInHead,
        Damage::CutAfter(1),
        Damage::PromisesMore(10),
        Damage::Garbage,
        Damage::Status(408, None),
        Damage::Status(429, None),
        Damage::Status(429, Some("0")),
        Damage::Status(500, None),
        Damage::Status(502, None),
        Damage::Status(503, Some("0")),
        Damage::Status(504, None),
        Damage::Slow(5, Duration::from_millis(2)),
        Damage::Hang,
        Damage::HangHalfway,
    ]
}

/// Bodies that are not what they should be.
fn wrong() -> Vec<Damage> {
    vec![
        Damage::WrongBit,
        Damage::Longer(5),
        Damage::Shorter(5),
        Damage::LongerWithoutLength(5),
        Damage::ShorterWithoutLength(5),
    ]
}

fn attempt(call: Call, damage: &Damage, times: u32) -> (World, Result<(), Error>) {
    let world = World::new(&call.login(), call.blob_bytes());
    world.registry.fail(Fault { target: call.target(), damage: damage.clone() }, times);
    let result = call.make(&world);
    let count = world.registry.requests().len();
    assert!(count <= MOST_REQUESTS, "{call:?} {damage:?}: {count} requests");
    world.registry.release();
    (world, result)
}

/// The errors of one kind of request.
fn each_fault(call: Call) {
    for damage in transient() {
        let (world, result) = attempt(call, &damage, 1);
        // A length that is not the one in the descriptor is refused at once.
        let is_refused = matches!((call, &damage), (Call::Config, Damage::PromisesMore(_)));
        let is_right = result.is_ok() != is_refused;
        assert!(is_right, "{call:?} {damage:?} once: {result:?}\n{}", world.registry.log());
        assert_eq!(world.registry.faults_left(), 0, "{call:?} {damage:?}: it was met");
        let (world, result) = attempt(call, &damage, 1000);
        let is_right = result.is_err() != call.is_harmless(&damage);
        assert!(is_right, "{call:?} {damage:?} always: {result:?}\n{}", world.registry.log());
        if let Err(error) = result {
            let text = error.to_string();
            let names_it = text.contains(&world.registry.host()) || text.contains("localhost");
            assert!(names_it, "{call:?} {damage:?}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("1dentity"), "{text}");
        }
    }
    // A token that was refused is replaced once; who refuses all of them is told from a registry
    // that fails.
    let (world, result) = attempt(call, &Damage::Unauthorized, 1000);
    let error = result.unwrap_err();
    let is_named = matches!(
        error,
        Error::Unauthorized { .. } | Error::LoginRefused { .. } | Error::TokenService { .. }
    );
    assert!(is_named, "{call:?}: {error:?}\n{}", world.registry.log());
}

/// What the bodies of answers say.
fn each_wrong_body(call: Call) {
    for damage in wrong() {
        for times in [1, 1000] {
            // `make` sees that what succeeds is right.
            let (world, result) = attempt(call, &damage, times);
            assert!(
                times == 1 || result.is_err(),
                "{call:?} {damage:?}: {result:?}\n{}",
                world.registry.log()
            );
        }
    }
}

/// Redirections to another host and in a circle.
fn each_redirection(call: Call) {
    let other = Registry::start();
    let elsewhere = format!("http://{}/v2/app/blobs/none", other.host());
    for address in [elsewhere, "/v2/".to_owned(), "http://".to_owned(), "%".to_owned()] {
        if address == "/v2/" && call.is_believed() {
            continue;
        }
        let (world, result) = attempt(call, &Damage::RedirectsTo(address.clone()), 1000);
        // What nobody says to be there is sent.
        let is_refused = result.is_err() || matches!(call, Call::HeadOfBlob);
        assert!(is_refused, "{call:?} {address}: {result:?}\n{}", world.registry.log());
    }
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None, "{call:?}");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains("hunter2") && !body.contains("1dentity"), "{call:?}: {body}");
    }
}

macro_rules! matrix {
    ($($name:ident: $call:ident $(, $more:ident)*;)*) => {
        $(#[test]
        fn $name() {
            each_fault(Call::$call);
            each_redirection(Call::$call);
            $($more(Call::$call);)*
        })*
    };
}

matrix! {
    tokens: Token;
    tokens_for_an_identity_token: IdentityToken;
    heads_of_manifests: HeadOfManifest;
    manifests: Manifest, each_wrong_body;
    configs: Config, each_wrong_body;
    blobs: Blob, each_wrong_body;
    heads_of_blobs: HeadOfBlob;
    mounts: Mount;
    starts_of_uploads: StartOfUpload;
    parts_of_uploads: PartOfUpload;
    ends_of_uploads: EndOfUpload;
    puts_of_manifests: PutOfManifest;
}

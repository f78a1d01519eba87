//! What can go wrong between kiln and a registry.
//!
//! URLs in errors are shown without query and user, where pre-signed addresses and passwords
//! would be. Messages are lower case without a period; what to do about it is in
//! [`Error::hint`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kiln_core::digest::BlobDigest;

/// What a registry that refuses access was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nothing: there are no credentials for it.
    Anonymous,
    /// The configured credentials.
    Credentials,
    /// Nothing, because the configured credentials could not be had, for this reason.
    Unavailable(String),
}

/// An error between kiln and a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry does not have it.
    #[error("`{reference}` was not found")]
    NotFound {
        /// The image, or `repository@digest` of a blob.
        reference: String,
    },
    /// The registry refuses access.
    #[error("`{registry}` refuses access to `{reference}`{}", describe(login))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The image, or `repository@digest` of a blob.
        reference: String,
        /// What it was shown.
        login: Login,
    },
    /// The registry asks for a login of a kind that kiln does not know.
    #[error("`{registry}` asks for a login that kiln does not know: {challenge}")]
    UnknownChallenge {
        /// The registry.
        registry: String,
        /// Names of the schemes it offers.
        challenge: String,
    },
    /// The token service could not be used.
    #[error("the token service of `{registry}` at {url} {reason}")]
    TokenService {
        /// The registry.
        registry: String,
        /// The service.
        url: String,
        /// What is wrong, to follow its address.
        reason: String,
    },
    /// No answer, after all attempts.
    #[error("cannot reach `{registry}`: {url}")]
    Unreachable {
        /// The registry, or the host it redirects to.
        registry: String,
        /// What was asked for.
        url: String,
        /// The last attempt's failure.
        source: io::Error,
    },
    /// No TLS connection that can be trusted.
    #[error("no trusted TLS connection to `{registry}`: {reason}")]
    Tls {
        /// The registry, or the host it redirects to.
        registry: String,
        /// What TLS says.
        reason: String,
    },
    /// A file of certificate authorities cannot be used.
    #[error("cannot read certificate authorities from {}", path.display())]
    CertificateAuthorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate of the client, or its key, cannot be used.
    #[error("cannot use {} as certificate or key of a client", path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that says how registries are reached cannot be used.
    #[error("{}: {reason}", path.display())]
    Route {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user's configuration blocks the registry.
    #[error("`{prefix}` is blocked by {}", path.display())]
    Blocked {
        /// What is blocked: a registry, or a part of it.
        prefix: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// A proxy's URL is not one.
    #[error("the proxy for {scheme} is not a URL that kiln can use")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
    },
    /// The registry asks to come back later, beyond all attempts.
    #[error("`{registry}` allows no further requests for now{}", after(*retry_after))]
    TooManyRequests {
        /// The registry.
        registry: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that kiln has no use for.
    #[error("{url} answered {status}{}", detail(message))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says; may be empty.
        message: String,
    },
    /// An object store does not do what it was asked.
    #[error("{place}: {asked} answered {status}{}", detail(message))]
    Objects {
        /// The store.
        place: String,
        /// What was asked, such as `PUT blobs/x`.
        asked: String,
        /// The HTTP status.
        status: u16,
        /// The store's name of the error; may be empty.
        code: String,
        /// What it says, with the name; may be empty.
        message: String,
    },
    /// There is nothing to show an object store so that it lets kiln in.
    #[error("{place}: {reason}")]
    ObjectLogin {
        /// The store.
        place: String,
        /// What is missing.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{url} has digest {actual} instead of {expected}")]
    DigestMismatch {
        /// What was asked for.
        url: String,
        /// The digest that they should have.
        expected: BlobDigest,
        /// The digest that they have.
        actual: BlobDigest,
    },
    /// There are fewer or more bytes than the descriptor says.
    #[error("{url} has {actual_bytes} bytes instead of {expected_bytes}")]
    SizeMismatch {
        /// What was asked for.
        url: String,
        /// The size that the descriptor says.
        expected_bytes: u64,
        /// The size that the registry says, or how many came at least.
        actual_bytes: u64,
    },
    /// The connection kept breaking.
    #[error("the download of {url} broke off at {received_bytes} of {expected_bytes} bytes")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// How many bytes had come.
        received_bytes: u64,
        /// How many there are.
        expected_bytes: u64,
        /// The last failure.
        source: io::Error,
    },
    /// A login is not right.
    #[error("`{registry}` refuses this user and password")]
    LoginRefused {
        /// The registry.
        registry: String,
    },
    /// Docker's `config.json` cannot be used.
    #[error("{} is left alone: {reason}", path.display())]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper did not do what it was asked.
    #[error("`{helper}` {reason}")]
    CredentialHelper {
        /// The program.
        helper: String,
        /// What went wrong, to follow its name.
        reason: String,
    },
    /// What is to be sent cannot be read.
    #[error("cannot read what is to be sent to {url}")]
    Unread {
        /// Where it is sent.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// A file that is to be sent cannot be read.
    #[error("cannot read {} to send it", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The registry has no such repository, and makes none for who pushes.
    #[error("`{registry}` has no repository `{name}`")]
    NoRepository {
        /// The registry.
        registry: String,
        /// The repository there.
        name: String,
    },
    /// The registry takes no blobs or manifests.
    #[error("`{registry}` does not take pushes: {url} answered {status}{}", detail(message))]
    ReadOnly {
        /// The registry.
        registry: String,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says; may be empty.
        message: String,
    },
    /// The registry says that it took something, but not where it goes on.
    #[error("{url} answered {status} without {header}")]
    MissingHeader {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The header's name.
        header: &'static str,
    },
    /// A digest of another kind than sha256.
    #[error("`{digest}` in {place} is not a sha256 digest, the only kind that kiln knows")]
    UnknownDigest {
        /// The digest.
        digest: String,
        /// Where it was found.
        place: String,
    },
    /// A layer that is to be fetched from elsewhere.
    #[error("layer {digest} of `{repository}` is a foreign layer, kept outside the registry")]
    ForeignLayer {
        /// The repository.
        repository: String,
        /// The layer.
        digest: BlobDigest,
    },
    /// A document that is not what it should be.
    #[error("{url} is not valid: {reason}")]
    InvalidDocument {
        /// Where it came from.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The index has nothing for the platform.
    #[error("`{reference}` has no image for {platform}; it has {}", list(available))]
    NoPlatform {
        /// The image.
        reference: String,
        /// The platform that was asked for.
        platform: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// A redirection that must not be followed.
    #[error("{url} redirects to {target}: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The name of a registry, or an address that a registry sends, is no URL.
    #[error("`{url}` is not a URL")]
    InvalidUrl {
        /// The text.
        url: String,
    },
    /// There is no program `git`.
    #[error("`git` is not installed, and {url} is a git repository")]
    NoGit {
        /// The repository.
        url: String,
    },
    /// The program `git` could not be started or listened to.
    #[error("`git` cannot be run")]
    RunGit {
        /// Why not.
        source: io::Error,
    },
    /// A repository could not be fetched.
    #[error("failed to fetch remote {url}: {}", stderr.trim_end())]
    Git {
        /// The repository, without credentials.
        url: String,
        /// What git said.
        stderr: String,
    },
    /// A repository has nothing of that name.
    #[error("repository does not contain ref {reference}: {url}")]
    NoReference {
        /// The repository, without credentials.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The client was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Takes an error of this crate back out of what a [`BlobReader`](crate::BlobReader)
    /// returned; any other error comes back as it is.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// What to do about it, where that is known for this very case.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { registry, login, .. } => Some(match login {
                Login::Anonymous => format!(
                    "check the name; if the repository is private, run `kiln login {registry}`"
                ),
                Login::Credentials => format!(
                    "check the name; if it is right, the login of {registry} lacks the rights \
                     or has expired: run `kiln login {registry}`"
                ),
                Login::Unavailable(_) => {
                    "check the name and the credential helper in docker's config.json".to_owned()
                }
            }),
            Self::Tls { reason, .. } if reason.contains("UnknownIssuer") => Some(
                "if the registry or a proxy has its own certificate authority, name its PEM \
                 file in SSL_CERT_FILE, or as `ca` of the registry in kiln.toml"
                    .to_owned(),
            ),
            Self::Tls { registry, reason } if is_plain_http(reason) => Some(format!(
                "`{registry}` seems to speak plain HTTP; if it should, say so in kiln.toml: \
                 [registry.\"{registry}\"] http = true"
            )),
            Self::TooManyRequests { registry, .. } if registry == "docker.io" => {
                Some("Docker Hub allows more requests after `kiln login`".to_owned())
            }
            Self::LoginRefused { registry } => {
                Some(format!("check them; {registry} may want a token in place of the password"))
            }
            Self::CredentialHelper { .. } => Some(
                "docker's config.json names it (`credsStore`, `credHelpers`): install it, or take \
                 its name out"
                    .to_owned(),
            ),
            Self::NoRepository { registry, name } => {
                Some(format!("make the repository `{name}` at {registry} first, or check the name"))
            }
            Self::ReadOnly { .. } => Some(
                "it may be a mirror, a cache or read-only for now: push to the registry itself"
                    .to_owned(),
            ),
            Self::Objects { code, .. } => crate::objects::hint(code).map(str::to_owned),
            Self::NoGit { .. } => Some(
                "install git (`apt-get install git`, `dnf install git`, `apk add git`), or fetch \
                 an archive of the repository instead"
                    .to_owned(),
            ),
            Self::Git { stderr, .. } if asks_for_login(stderr) => Some(
                "if the repository is private, give a token with `--secret id=GIT_AUTH_TOKEN`, or \
                 let git know your login"
                    .to_owned(),
            ),
            Self::NoReference { .. } => {
                Some("a branch, a tag or a whole commit name is possible".to_owned())
            }
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Whether git was asked for a login that it does not have.
fn asks_for_login(stderr: &str) -> bool {
    ["could not read Username", "Authentication failed", "Permission denied (publickey"]
        .iter()
        .any(|sign| stderr.contains(sign))
}

/// A text from a registry as it may stand in an error: no control characters, not too long.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What a TLS client makes of an answer in plain text.
pub(crate) fn is_plain_http(reason: &str) -> bool {
    reason.contains("InvalidContentType")
}

fn describe(login: &Login) -> String {
    match login {
        Login::Anonymous => " to the anonymous".to_owned(),
        Login::Credentials => " with the configured login".to_owned(),
        Login::Unavailable(reason) => format!(" to the anonymous ({reason})"),
    }
}

fn after(wait: Option<Duration>) -> String {
    wait.map(|wait| format!("; it asks to wait {} s", wait.as_secs())).unwrap_or_default()
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn list(available: &[String]) -> String {
    if available.is_empty() { "none".to_owned() } else { available.join(", ") }
}

//! What a registry wants to see before it answers (RFC 7617; distribution's `token.md` and
//! `oauth.md`).

use std::fs;
use std::path::Path;

use kiln_core::digest::BlobDigest;

use super::wire::Answer;
use super::{Content, Request, State};

/// What a registry wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// Nothing.
    #[default]
    None,
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that anybody gets.
    AnonymousToken,
    /// A token for user and password.
    Token {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token for an identity token.
    IdentityToken(String),
    /// The same, and the identity token for user and password (distribution's `oauth.md`).
    Exchange {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// The identity token.
        identity: String,
        /// How it is asked for.
        by: ExchangeBy,
    },
    /// A scheme that nobody knows.
    Unknown,
}

/// How a token service wants to be asked for an identity token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeBy {
    /// `GET`, with `offline_token=true`.
    Get,
    /// `POST`, with `access_type=offline`; it knows no `GET`.
    Post,
}

#[derive(Debug)]
pub(crate) struct IssuedToken {
    text: String,
    scopes: Vec<String>,
}

/// The answer to a request that may not pass; `None` lets it pass.
pub(crate) fn check(state: &State, content: &Content, request: &Request) -> Option<Answer> {
    let shown = request.header("authorization");
    match &content.login {
        Login::None => None,
        Login::Unknown => Some(refuse("Negotiate")),
        Login::Basic { user, password } => {
            (shown != Some(&basic(user, password))).then(|| refuse(r#"Basic realm="kiln, tests""#))
        }
        _ => {
            let needed = needed_scopes(request);
            let is_good = content.tokens.iter().any(|token| {
                shown == Some(&format!("Bearer {}", token.text))
                    && needed.iter().all(|scope| token.covers(scope))
            });
            (!is_good).then(|| challenge(state, &needed.join(" ")))
        }
    }
}

/// The answer to a request that shows credentials to a server that must not see any.
pub(crate) fn check_none(request: &Request) -> Option<Answer> {
    request
        .header("authorization")
        .map(|_| Answer::error(400, "INVALID", "only one kind of authorization is allowed"))
}

/// What a token has to be good for.
fn needed_scopes(request: &Request) -> Vec<String> {
    let Some(repository) = repository(request) else {
        return Vec::new();
    };
    let is_push = !matches!(request.method.as_str(), "GET" | "HEAD");
    let actions = if is_push { "pull,push" } else { "pull" };
    let mut scopes = vec![format!("repository:{repository}:{actions}")];
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let from = parse_form(query).into_iter().find(|(name, _)| name == "from");
    scopes.extend(from.map(|(_, from)| format!("repository:{from}:pull")));
    scopes
}

impl IssuedToken {
    fn covers(&self, needed: &str) -> bool {
        let (name, actions) = needed.rsplit_once(':').unwrap_or_default();
        let granted = |action: &str| {
            self.scopes.iter().filter_map(|scope| scope.rsplit_once(':')).any(|(known, granted)| {
                known == name && granted.split(',').any(|known| known == action)
            })
        };
        actions.split(',').all(granted)
    }
}

/// A Bearer challenge for a scope.
pub(crate) fn challenge(state: &State, scope: &str) -> Answer {
    let registry = state.registry;
    refuse(&format!(
        r#"Bearer realm="http://{registry}/token?kind=test",service="kiln, tests",scope="{scope}""#
    ))
}

/// Asks for the repository that a request is about.
pub(crate) fn repository(request: &Request) -> Option<&str> {
    let path = request.bare_path().strip_prefix("/v2/")?;
    let (repository, _) = ["/manifests/", "/blobs/uploads/", "/blobs/", "/referrers/"]
        .iter()
        .find_map(|middle| path.rsplit_once(middle))?;
    Some(repository)
}

fn refuse(challenge: &str) -> Answer {
    Answer::error(401, "UNAUTHORIZED", "authentication required")
        .header("WWW-Authenticate", challenge)
}

/// Answers a request for a token.
pub(crate) fn issue(content: &mut Content, request: &Request) -> Answer {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let body = String::from_utf8_lossy(&request.body);
    let fields = parse_form(if request.method == "POST" { &body } else { query });
    let all = |name: &str| -> Vec<String> {
        let found = fields.iter().filter(|(known, _)| known == name);
        found.flat_map(|(_, value)| value.split(' ')).map(str::to_owned).collect()
    };
    let shown = request.header("authorization");
    let is = |name: &str, value: &str| all(name) == [value];
    let is_refresh = |identity: &str| {
        request.method == "POST"
            && shown.is_none()
            && is("refresh_token", identity)
            && is("grant_type", "refresh_token")
            && !all("client_id").is_empty()
    };
    let mut refresh = None;
    if let Login::Exchange { by: ExchangeBy::Post, .. } = &content.login
        && request.method != "POST"
    {
        return Answer::error(405, "UNSUPPORTED", "that is not supported");
    }
    let is_allowed = match &content.login {
        Login::AnonymousToken => shown.is_none() && request.method == "GET",
        Login::Token { user, password } => {
            shown == Some(&basic(user, password)) && request.method == "GET"
        }
        Login::IdentityToken(identity) => is_refresh(identity),
        Login::Exchange { user, password, identity, by } => {
            let is_login = match by {
                ExchangeBy::Get => request.method == "GET" && shown == Some(&basic(user, password)),
                ExchangeBy::Post => {
                    shown.is_none()
                        && is("grant_type", "password")
                        && is("username", user)
                        && is("password", password)
                }
            };
            let is_offline = is("offline_token", "true") || is("access_type", "offline");
            if is_login && is_offline && !all("client_id").is_empty() {
                refresh = Some(identity.clone());
            }
            refresh.is_some() || is_refresh(identity)
        }
        _ => false,
    };
    let service = fields.iter().find(|(name, _)| name == "service");
    if !is_allowed || service.is_none_or(|(_, service)| service != "kiln, tests") {
        return Answer::error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    content.issued += 1;
    let text = BlobDigest::of(format!("token {}", content.issued).as_bytes()).hex();
    let name = if request.method == "POST" { "access_token" } else { "token" };
    let mut answer = serde_json::json!({ name: text, "expires_in": 300 });
    if let Some(refresh) = refresh {
        answer["refresh_token"] = refresh.into();
    }
    content.tokens.push(IssuedToken { text, scopes: all("scope") });
    Answer::new(200, answer.to_string().into_bytes()).header("Content-Type", "application/json")
}

pub(crate) fn parse_form(form: &str) -> Vec<(String, String)> {
    form.split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (unescape(name), unescape(value)))
        .collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The `Authorization` of a user and a password.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// Writes docker's `config.json` with a login for `key`, into a directory.
pub(crate) fn write_config(directory: &Path, key: &str, login: &Login) {
    let entry = match login {
        Login::Basic { user, password }
        | Login::Token { user, password }
        | Login::Exchange { user, password, .. } => {
            serde_json::json!({"auth": base64(format!("{user}:{password}").as_bytes())})
        }
        Login::IdentityToken(token) => {
            serde_json::json!({"auth": base64(b"ignored:"), "identitytoken": token})
        }
        Login::None | Login::AnonymousToken | Login::Unknown => serde_json::json!({}),
    };
    let config = serde_json::json!({"auths": {key: entry}});
    fs::write(directory.join("config.json"), config.to_string())
        .expect("config.json should be writable");
}

/// Standard base64 with padding, bit by bit.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1)).collect();
    let mut text: String = bits
        .chunks(6)
        .map(|chunk| {
            let value =
                (0..6).fold(0, |value, bit| value << 1 | chunk.get(bit).copied().unwrap_or(0));
            char::from(DIGITS[usize::from(value)])
        })
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

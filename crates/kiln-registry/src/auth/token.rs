//! Asking a token service for a token (distribution's `token.md` and `oauth.md`).

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::challenge::Challenge;
use super::credential::Credential;
use super::secret::Secret;
use crate::error::Error;
use crate::http::{Method, Request, Response, Scheme, Url, form};
use crate::retry::Again;

/// A token, ready to be shown.
#[derive(Debug)]
pub(crate) struct Token {
    /// The `Authorization`.
    pub(crate) header: Secret,
    /// From when on it is not shown any more.
    pub(crate) expires: Instant,
    /// What is taken for further tokens from now on, if the service gives such a thing.
    pub(crate) identity: Option<Secret>,
}

/// What a token is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A request.
    Request,
    /// To log in for good: an identity token, too, if there are some.
    Login,
    /// The same, of a service that wants to be asked with POST alone.
    LoginByPost,
}

/// What the token service is asked.
#[derive(Debug)]
pub(crate) struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: Vec<&'a str>,
    credential: &'a Credential,
    purpose: Purpose,
}

/// The name under which kiln asks for tokens (`oauth.md`).
const CLIENT_ID: &str = "kiln";

/// How long a token lives whose service does not say (`token.md`).
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// Answers of token services are not longer than this.
const ANSWER_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
}

impl<'a> TokenRequest<'a> {
    /// The request that `challenge` asks for, for the scopes in `scope` besides what the challenge
    /// names.
    /// `registry` is named in errors; `is_plain` tells whether a host may be spoken to without TLS.
    pub(crate) fn new(
        challenge: &'a Challenge,
        scope: &'a str,
        credential: &'a Credential,
        registry: &str,
        is_plain: impl FnOnce(&Url) -> bool,
    ) -> Result<Self, Error> {
        let realm = Url::parse(challenge.parameter("realm").unwrap_or_default())?;
        if realm.scheme == Scheme::Http && !is_plain(&realm) {
            return Err(Error::TokenService {
                registry: registry.to_owned(),
                url: realm.to_string(),
                reason: "is not reached over TLS, so kiln does not use it".to_owned(),
            });
        }
        let mut scopes: Vec<&str> =
            challenge.parameter("scope").unwrap_or_default().split_ascii_whitespace().collect();
        for needed in scope.split_ascii_whitespace() {
            if !scopes.iter().any(|asked| covers(asked, needed)) {
                scopes.push(needed);
            }
        }
        let service = challenge.parameter("service");
        Ok(Self { realm, service, scopes, credential, purpose: Purpose::Request })
    }

    /// The same request for another purpose.
    pub(crate) fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// The same request by POST, if it is a login that went another way.
    pub(crate) fn by_post(&self) -> Option<Self> {
        let Self { realm, service, scopes, credential, purpose } = self;
        (*purpose == Purpose::Login).then(|| Self {
            realm: realm.clone(),
            service: *service,
            scopes: scopes.clone(),
            credential,
            purpose: Purpose::LoginByPost,
        })
    }

    /// The `Authorization` that goes with it.
    pub(crate) fn authorization(&self) -> Option<Secret> {
        self.credential.basic().filter(|_| self.purpose != Purpose::LoginByPost)
    }

    /// Where it goes.
    pub(crate) fn url(&self) -> &Url {
        &self.realm
    }

    /// The HTTP request; its [`authorization`](Self::authorization) has to be added to it.
    pub(crate) fn request(&self) -> Request<'_> {
        let service = self.service.map(|service| ("service", service));
        let scope = self.scopes.join(" ");
        let post = |grant: &[(&str, &str)]| {
            let mut fields: Vec<(&str, &str)> = service.into_iter().collect();
            if !scope.is_empty() {
                fields.push(("scope", &scope));
            }
            fields.push(("client_id", CLIENT_ID));
            fields.extend(grant);
            let method = Method::PostForm(Secret::new(form(&fields)));
            Request::new(method, self.realm.clone())
        };
        match self.credential {
            Credential::IdentityToken(token) => {
                return post(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())]);
            }
            Credential::Password { user, password } if self.purpose == Purpose::LoginByPost => {
                return post(&[
                    ("grant_type", "password"),
                    ("access_type", "offline"),
                    ("username", user),
                    ("password", password.expose()),
                ]);
            }
            _ => {}
        }
        let mut fields: Vec<(&str, &str)> = service.into_iter().collect();
        fields.extend(self.scopes.iter().map(|scope| ("scope", *scope)));
        if self.purpose == Purpose::Login {
            fields.extend([("offline_token", "true"), ("client_id", CLIENT_ID)]);
        }
        if let Credential::Password { user, .. } = self.credential {
            fields.push(("account", user));
        }
        Request::new(Method::Get, self.realm.with_query(&fields))
    }
}

impl Token {
    /// The token in a successful answer; otherwise what is wrong with it, and whether another answer
    /// may be better.
    pub(crate) fn read(response: Response) -> Result<Self, (String, Again)> {
        let bytes = response
            .read(ANSWER_BYTES)
            .map_err(|error| (format!("broke off: {error}"), Again::Later))?;
        Self::parse(&bytes).map_err(|reason| (reason, Again::Never))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let asked = Instant::now();
        let answer: Answer =
            serde_json::from_slice(bytes).map_err(|_| "answered no JSON".to_owned())?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or("answered without a token")?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("answered a token that is none".to_owned());
        }
        let life = answer
            .expires_in
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|life| !life.is_zero())
            .unwrap_or(DEFAULT_LIFE);
        // A token is given up a little early, so that it does not expire on its way.
        let life = life.min(Duration::from_hours(24));
        let margin = (life / 10).min(Duration::from_secs(10));
        Ok(Token {
            header: Secret::new(format!("Bearer {token}")),
            expires: asked + life.saturating_sub(margin),
            identity: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        })
    }
}

/// Whether one scope `type:name:actions` asks for all that another does.
fn covers(asked: &str, needed: &str) -> bool {
    let (Some((asked, actions)), Some((name, needed))) =
        (asked.rsplit_once(':'), needed.rsplit_once(':'))
    else {
        return false;
    };
    asked == name
        && needed
            .split(',')
            .all(|action| actions.split(',').any(|granted| granted == action || granted == "*"))
}

#[cfg(test)]
mod tests {
    use super::super::challenge;
    use super::*;

    fn challenge_of(header: &str) -> Challenge {
        challenge::parse(header).remove(0)
    }

    fn url_of(header: &str, credential: &Credential) -> String {
        let challenge = challenge_of(header);
        let scope = "repository:a/b:pull";
        let request =
            TokenRequest::new(&challenge, scope, credential, "r.example", |_| false).unwrap();
        request.request().url.full()
    }

    #[test]
    fn the_scope_of_the_challenge_is_enough_if_it_covers_ours() {
        let header =
            r#"Bearer realm="https://t.example/x",service="s",scope="repository:a/b:pull,push""#;
        assert_eq!(
            url_of(header, &Credential::Anonymous),
            "https://t.example/x?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        let header = r#"Bearer realm="https://t.example/x?y=z""#;
        assert_eq!(
            url_of(header, &Credential::Anonymous),
            "https://t.example/x?y=z&scope=repository%3Aa%2Fb%3Apull"
        );
    }

    #[test]
    fn an_identity_token_is_posted() {
        let challenge = challenge_of(r#"Bearer realm="https://t.example/x",service="s""#);
        let credential = Credential::IdentityToken(Secret::new("hunter 2"));
        let request =
            TokenRequest::new(&challenge, "repository:a:pull", &credential, "r.example", |_| false)
                .unwrap();
        let Method::PostForm(form) = request.request().method else {
            panic!("not posted");
        };
        assert_eq!(
            form.expose(),
            "service=s&scope=repository%3Aa%3Apull&client_id=kiln&grant_type=refresh_token\
             &refresh_token=hunter%202"
        );
        assert!(!format!("{request:?} {:?}", request.request()).contains("hunter"));
    }

    #[test]
    fn a_login_asks_for_an_identity_token() {
        let challenge = challenge_of(r#"Bearer realm="https://t.example/x",service="s""#);
        let password = Secret::new("hunter 2");
        let credential = Credential::Password { user: "me".to_owned(), password };
        let login = TokenRequest::new(&challenge, "", &credential, "r.example", |_| false).unwrap();
        assert!(login.by_post().is_none());
        let login = login.with_purpose(Purpose::Login);
        assert_eq!(
            login.request().url.full(),
            "https://t.example/x?service=s&offline_token=true&client_id=kiln&account=me"
        );
        assert!(login.authorization().is_some());
        let login = login.by_post().unwrap();
        let Method::PostForm(form) = login.request().method else {
            panic!("not posted");
        };
        assert_eq!(
            form.expose(),
            "service=s&client_id=kiln&grant_type=password&access_type=offline&username=me\
             &password=hunter%202"
        );
        assert!(login.authorization().is_none() && login.by_post().is_none());
        assert!(!format!("{login:?} {:?}", login.request()).contains("hunter"));
    }

    #[test]
    fn a_token_service_without_tls_is_refused() {
        let challenge = challenge_of(r#"Bearer realm="http://t.example/x?password=hunter2""#);
        let credential = Credential::Anonymous;
        let refused =
            TokenRequest::new(&challenge, "repository:a:pull", &credential, "r.example", |_| false);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("over TLS") && !text.contains("hunter2"), "{text}");
        assert!(
            TokenRequest::new(&challenge, "x:a:pull", &credential, "r.example", |_| true).is_ok()
        );
    }
}

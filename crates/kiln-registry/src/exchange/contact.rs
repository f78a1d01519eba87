//! The first words to a registry: with TLS or without, and with which certificate of kiln's own.

use super::{Call, Exchange, request_of};
use crate::auth::{Host, Secret};
use crate::error::{Error, is_plain_http};
use crate::http::{Response, Scheme, Url};
use crate::retry::Failure;

impl Exchange {
    /// Sends a call to the registry. While it has taken none of several certificates of kiln's, they
    /// are tried one after the other.
    pub(super) fn send_first(
        &self,
        host: &Host,
        call: &Call<'_>,
        path: &str,
        shown: Option<&Secret>,
    ) -> Result<Response, Failure> {
        loop {
            let pair = host.pair();
            let answer = Self::find_scheme(host, |scheme| {
                let url = Url::new(scheme, &host.authority, path)?;
                self.transport.send(&request_of((host, host.shown_with(pair)), call, url, shown))
            });
            if !may_refuse_certificate(&answer) {
                if answer.is_ok() {
                    host.keep_pair();
                }
                return answer;
            }
            if !host.pass_pair(pair) {
                return answer;
            }
        }
    }

    /// Sends something to a registry. One on this machine that nobody has spoken to yet is tried
    /// without TLS, and with it if what answers does not understand that.
    fn find_scheme(
        host: &Host,
        send: impl Fn(Scheme) -> Result<Response, Failure>,
    ) -> Result<Response, Failure> {
        if let Some(scheme) = host.scheme.get() {
            return send(*scheme);
        }
        if host.endpoint.trust.is_unverified {
            return Self::send_insecurely(host, send);
        }
        let plain = send(Scheme::Http);
        let is_puzzling = match &plain {
            Ok(response) => response.status == 400,
            Err(failure) => matches!(
                &failure.error,
                Error::Unreachable { source, .. }
                    if source.kind() == std::io::ErrorKind::InvalidData
            ),
        };
        if !is_puzzling {
            if plain.is_ok() {
                host.scheme.get_or_init(|| Scheme::Http);
            }
            return plain;
        }
        match send(Scheme::Https) {
            Ok(response) => {
                host.scheme.get_or_init(|| Scheme::Https);
                Ok(response)
            }
            Err(Failure { error: error @ Error::Tls { .. }, again })
                if !is_plain_http(&error.to_string()) =>
            {
                Err(Failure { error, again })
            }
            Err(_) => plain,
        }
    }

    /// Sends a call to a host that is configured as insecure: with TLS, and without if that is
    /// not what it speaks.
    fn send_insecurely(
        host: &Host,
        send: impl Fn(Scheme) -> Result<Response, Failure>,
    ) -> Result<Response, Failure> {
        let secure = send(Scheme::Https);
        let scheme = match &secure {
            Ok(_) => Scheme::Https,
            Err(Failure { error: Error::Tls { reason, .. }, .. }) if is_plain_http(reason) => {
                Scheme::Http
            }
            // Nothing listens at the port of TLS.
            Err(Failure { error: Error::Unreachable { source, .. }, .. })
                if source.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                Scheme::Http
            }
            Err(_) => return secure,
        };
        let answer = if scheme == Scheme::Https { secure } else { send(scheme) };
        if answer.is_ok() {
            host.scheme.get_or_init(|| scheme);
        }
        answer
    }
}

/// Whether an answer may mean that the certificate of the client is not the one that is wanted:
/// with TLS 1.3, a registry says so after the handshake, or closes the connection; one that asks
/// without insisting answers 400.
fn may_refuse_certificate(answer: &Result<Response, Failure>) -> bool {
    use std::io::ErrorKind;
    match answer {
        Ok(response) => response.status == 400,
        Err(Failure { error: Error::Tls { .. }, .. }) => true,
        Err(Failure { error: Error::Unreachable { source, .. }, .. }) => matches!(
            source.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ),
        Err(_) => false,
    }
}

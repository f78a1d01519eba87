//! Whose certificates are trusted: the bundles that the configuration names, else the
//! system's, else Mozilla's; a host's own besides. And which certificate kiln shows a host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::config::Config;
use crate::error::Error;
use crate::routes::Trust;

/// Where systems keep their bundle; the first that exists is used.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How TLS is spoken, by the configuration and what it says of one host.
pub(crate) fn load(config: &Config, trust: &Trust) -> Result<TlsConfig, Error> {
    let client = trust.client.first().map(|(certificate, key)| read_client(certificate, key));
    Ok(TlsConfig::builder()
        .root_certs(load_roots(config, trust)?)
        .client_cert(client.transpose()?)
        .disable_verification(trust.is_unverified)
        .build())
}

fn read_client(certificate: &Path, key: &Path) -> Result<ClientCert, Error> {
    let fail = |path: &Path, source| Error::ClientCertificate { path: path.to_owned(), source };
    let read = |path: &Path| fs::read(path).map_err(|source| fail(path, source));
    let chain = parse_bundle(&read(certificate)?)
        .map_err(|error| fail(certificate, io::Error::other(error)))?;
    if chain.is_empty() {
        return Err(fail(certificate, io::Error::other("there is no PEM certificate in it")));
    }
    let bytes = read(key)?;
    let found = parse_pem(&bytes).find_map(|item| match item {
        Ok(PemItem::PrivateKey(found)) => Some(found),
        _ => None,
    });
    let found = found
        .ok_or_else(|| fail(key, io::Error::other("there is no PEM key without password in it")))?;
    Ok(ClientCert::new_with_certs(&chain, found))
}

fn load_roots(config: &Config, trust: &Trust) -> Result<RootCerts, Error> {
    let mut certificates = Vec::new();
    for path in &config.ca_files {
        certificates.extend(read_bundle(path)?);
    }
    for directory in &config.ca_directories {
        read_directory(directory, &mut certificates);
    }
    if config.ca_files.is_empty() && config.ca_directories.is_empty() {
        let mut bundles = SYSTEM_BUNDLES.iter().map(Path::new);
        if let Some(path) = bundles.find(|path| path.exists()) {
            certificates = read_bundle(path)?;
        }
    }
    for path in config.extra_ca_files.iter().chain(&trust.ca) {
        certificates.extend(read_bundle(path)?);
    }
    if certificates.is_empty() {
        Ok(RootCerts::WebPki)
    } else {
        Ok(RootCerts::new_with_certs(&certificates))
    }
}

fn read_bundle(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let fail = |source| Error::CertificateAuthorities { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(fail)?;
    let certificates = parse_bundle(&bytes).map_err(|error| fail(io::Error::other(error)))?;
    if certificates.is_empty() {
        return Err(fail(io::Error::other("there is no PEM certificate in it")));
    }
    Ok(certificates)
}

/// As OpenSSL does: what cannot be read is passed over.
fn read_directory(directory: &Path, certificates: &mut Vec<Certificate<'static>>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.is_file()) {
        let found = fs::read(path).ok().and_then(|bytes| parse_bundle(&bytes).ok());
        certificates.extend(found.unwrap_or_default());
    }
}

fn parse_bundle(bytes: &[u8]) -> Result<Vec<Certificate<'static>>, ureq::Error> {
    parse_pem(bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_was_named_must_be_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let config = Config { ca_files: vec![path.clone()], ..Config::default() };
        let error = load_roots(&config, &Trust::default()).unwrap_err().to_string();
        assert!(error.contains("cannot read certificate authorities"), "{error}");
        fs::write(&path, "nothing").unwrap();
        assert!(load_roots(&config, &Trust::default()).is_err());
        let config =
            Config { ca_directories: vec![directory.path().to_owned()], ..Config::default() };
        assert!(matches!(load_roots(&config, &Trust::default()), Ok(RootCerts::WebPki)));
    }
}

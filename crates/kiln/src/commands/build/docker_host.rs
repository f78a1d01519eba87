//! Where Docker's engine is: `DOCKER_HOST`, else the context that docker's own client would use.
//!
//! Contexts are files of the client: `config.json` names the current one, and
//! `contexts/meta/SHA256-OF-NAME/meta.json` says where it is. Engines behind TLS are not spoken to.

use std::path::Path;

use kiln_core::digest::BlobDigest;
use kiln_engine::EngineAddress;
use serde_json::Value;

use crate::config::Config;
use crate::failure::Failure;

/// The address of the engine that docker's client would speak to.
pub(super) fn docker_host(config: &Config) -> Result<EngineAddress, Failure> {
    let named = |text: &str, whose: &str| -> Result<EngineAddress, Failure> {
        let address: EngineAddress = text
            .parse()
            .map_err(|error: kiln_engine::DockerEngineError| Failure::usage(error.to_string()))
            .map_err(|failure| failure.with_help(format!("{whose} says so")))?;
        if matches!(address, EngineAddress::Tcp(_))
            && config.variable("DOCKER_TLS_VERIFY").is_some()
        {
            return Err(Failure::usage(
                "DOCKER_TLS_VERIFY: kiln speaks to engines without TLS only",
            )
            .with_help("pipe `-o type=docker,dest=-` into `docker load`"));
        }
        Ok(address)
    };
    if let Some(text) = config.variable("DOCKER_HOST") {
        return named(text, "DOCKER_HOST");
    }
    let Some(directory) = config.docker_config() else {
        return Ok(EngineAddress::default());
    };
    let current = match config.variable("DOCKER_CONTEXT") {
        Some(name) => Some(name.to_owned()),
        None => json(&directory.join("config.json"))
            .and_then(|document| Some(document.get("currentContext")?.as_str()?.to_owned())),
    };
    let Some(name) = current.filter(|name| !name.is_empty() && name != "default") else {
        return Ok(EngineAddress::default());
    };
    let id = BlobDigest::of(name.as_bytes()).hex();
    let meta = directory.join("contexts/meta").join(id).join("meta.json");
    let host = json(&meta).and_then(|document| {
        Some(document.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
    });
    match host {
        Some(host) => named(&host, &format!("docker's context `{name}`")),
        None => Err(Failure::usage(format!("docker's context `{name}` names no engine"))
            .with_help("`docker context ls` lists them; DOCKER_HOST comes before them")),
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_before_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert_eq!(docker_host(&config).unwrap(), EngineAddress::default());
        config.variables.insert("DOCKER_CONFIG".into(), dir.path().display().to_string());
        assert_eq!(docker_host(&config).unwrap(), EngineAddress::default());
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"mine"}"#).unwrap();
        let error = docker_host(&config).unwrap_err().to_string();
        assert_eq!(error, "docker's context `mine` names no engine");
        let id = BlobDigest::of(b"mine").hex();
        let meta = dir.path().join("contexts/meta").join(id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"mine","Endpoints":{"docker":{"Host":"unix:///run/mine.sock"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        assert_eq!(docker_host(&config).unwrap().to_string(), "unix:///run/mine.sock");
        config.variables.insert("DOCKER_HOST".into(), "tcp://127.0.0.1:1".into());
        assert_eq!(docker_host(&config).unwrap().to_string(), "tcp://127.0.0.1:1");
        config.variables.insert("DOCKER_TLS_VERIFY".into(), "1".into());
        assert!(docker_host(&config).unwrap_err().to_string().contains("without TLS"));
    }
}

//! Values of `kiln build`'s options about RUN: hosts, limits, sizes, SSH agents. Buildx's spelling,
//! as types. Nothing here touches the disk or the environment.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::diagnostic::did_you_mean;
use kiln_core::dockerfile::parse_size;
use kiln_core::plan::{ExtraHost, Ulimit};

use super::options::OptionError;

fn wrong(text: impl Into<String>) -> OptionError {
    OptionError::Wrong(text.into())
}

/// `--add-host NAME:ADDRESS`; `NAME=ADDRESS` and an address in brackets are the same.
pub(super) fn extra_host(text: &str) -> Result<ExtraHost, OptionError> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = parts.filter(|(name, _)| !name.is_empty()) else {
        return Err(wrong("bad format for add-host: expected NAME:ADDRESS"));
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        // RUN is in the host's network: the host is where it is itself.
        "host-gateway" => Ipv4Addr::LOCALHOST.into(),
        text => text
            .parse::<IpAddr>()
            .map_err(|_| wrong(format!("invalid IP address in add-host: \"{address}\"")))?,
    };
    Ok(ExtraHost { name: name.to_lowercase(), address })
}

/// `--ulimit NAME=SOFT[:HARD]`; -1 is no limit.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let Some((name, values)) = text.split_once('=') else {
        return Err(wrong(format!("invalid ulimit argument: {text}; expected NAME=SOFT[:HARD]")));
    };
    if !Ulimit::NAMES.contains(&name) {
        let near = did_you_mean(name, Ulimit::NAMES);
        let hint = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        return Err(wrong(format!("invalid ulimit type: {name}{hint}")));
    }
    let value = |text: &str| match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(value @ 0..) => Ok(Some(value as u64)),
        _ => Err(wrong(format!("invalid ulimit value: {text} is no number"))),
    };
    let (soft, hard) = match values.split_once(':') {
        None => (value(values)?, value(values)?),
        Some((_, hard)) if hard.contains(':') => {
            return Err(wrong(format!(
                "too many limit values - {values}, can only have up to two, `soft[:hard]`"
            )));
        }
        Some((soft, hard)) => (value(soft)?, value(hard)?),
    };
    match (soft, hard) {
        (Some(low), Some(high)) if low > high => {
            return Err(wrong(format!(
                "ulimit soft limit must be less than or equal to hard limit: {low} > {high}"
            )));
        }
        (None, Some(high)) => {
            return Err(wrong(format!(
                "ulimit soft limit must be less than or equal to hard limit: -1 > {high}"
            )));
        }
        _ => {}
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `--shm-size`: bytes.
pub(super) fn shm_size(text: &str) -> Result<u64, OptionError> {
    match parse_size(text) {
        Ok(0) => Err(wrong("it must be more than 0")),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(wrong(error.message)),
    }
}

/// `--ssh`: `default` or `ID[=SOCKET|KEY[,KEY]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshOption {
    /// Under which steps ask for it.
    pub(super) id: String,
    /// One socket, or keys; none for the agent of the environment.
    pub(super) paths: Vec<PathBuf>,
}

impl FromStr for SshOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let paths = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        let id = if id.is_empty() { "default" } else { id };
        Ok(Self { id: id.to_owned(), paths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> String {
        match extra_host(text) {
            Ok(ExtraHost { name, address }) => format!("{address} {name}"),
            Err(error) => error.to_string(),
        }
    }

    fn limit(text: &str) -> String {
        match ulimit(text) {
            Ok(Ulimit { name, soft, hard }) => format!("{name} {soft:?} {hard:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn hosts_are_names_with_addresses() {
        assert_eq!(host("Db.Local:10.0.0.1"), "10.0.0.1 db.local");
        assert_eq!(host("six:::1"), "::1 six");
        assert_eq!(host("six=[fe80::2]"), "fe80::2 six");
        assert_eq!(host("up:host-gateway"), "127.0.0.1 up");
        assert_eq!(host("up"), "bad format for add-host: expected NAME:ADDRESS");
        assert_eq!(host("up:nowhere"), "invalid IP address in add-host: \"nowhere\"");
    }

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        assert_eq!(limit("nofile=1062"), "nofile Some(1062) Some(1062)");
        assert_eq!(limit("core=0:-1"), "core Some(0) None");
        assert_eq!(limit("nofiles=1"), "invalid ulimit type: nofiles, did you mean `nofile`?");
        let order = "ulimit soft limit must be less than or equal to hard limit: ";
        assert_eq!(limit("nproc=2:1"), format!("{order}2 > 1"));
        assert_eq!(limit("nproc=-1:1"), format!("{order}-1 > 1"));
        let many = "too many limit values - 1:2:3, can only have up to two, `soft[:hard]`";
        assert_eq!(limit("nproc=1:2:3"), many);
        assert_eq!(limit("nproc"), "invalid ulimit argument: nproc; expected NAME=SOFT[:HARD]");
        assert_eq!(limit("nproc=x"), "invalid ulimit value: x is no number");
    }

    #[test]
    fn sizes_and_agents() {
        assert_eq!(shm_size("128m"), Ok(128 << 20));
        assert!(shm_size("0").is_err() && shm_size("much").is_err());
        let ssh = |text: &str| {
            text.parse::<SshOption>().map(|it| {
                let paths: Vec<String> =
                    it.paths.iter().map(|path| path.display().to_string()).collect();
                format!("{} {}", it.id, paths.join(" "))
            })
        };
        assert_eq!(ssh("default"), Ok("default ".to_owned()));
        assert_eq!(ssh("deploy=/a,/b"), Ok("deploy /a /b".to_owned()));
        assert_eq!(ssh("=/a"), Ok("default /a".to_owned()));
    }
}

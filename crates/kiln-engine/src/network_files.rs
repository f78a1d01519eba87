//! The files by which a command finds names: `hosts` and `resolv.conf`.

use std::path::{Path, PathBuf};

use kiln_core::plan::ExtraHost;

use crate::error::{BuildError, FileContext};

/// Files by their names in `/etc`.
pub(crate) type NetworkFiles = Vec<(&'static str, PathBuf)>;

/// Writes `hosts` and `resolv.conf` for a command into a directory. The host's network is the
/// command's too, so its name servers are right.
pub(crate) fn network_files(
    directory: &Path,
    host_name: &str,
    extra: &[ExtraHost],
) -> Result<NetworkFiles, BuildError> {
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut hosts =
        format!("127.0.0.1\tlocalhost {host_name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for ExtraHost { name, address } in extra {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let mut files = Vec::new();
    for (file, text) in [("hosts", hosts), ("resolv.conf", resolver)] {
        let path = directory.join(file);
        std::fs::write(&path, text).at("write", &path)?;
        files.push((file, path));
    }
    Ok(files)
}

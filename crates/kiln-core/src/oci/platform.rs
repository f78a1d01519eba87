//! `os/architecture[/variant]` (containerd's platform normalisation).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; write it as `os/architecture[/variant]`, like `linux/arm64`")]
pub struct PlatformError(pub String);

/// What an image runs on, normalised: `x86_64` is `amd64`, `arm64/v8` is `arm64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU, in Go's spelling.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system; Windows has them.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// CPU variant, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that kiln does not know (`os.features`).
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

impl Platform {
    /// A normalised platform.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = match architecture.to_lowercase().as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), None),
            "aarch64" | "arm64" => ("arm64".to_owned(), None),
            "i386" | "i686" | "386" => ("386".to_owned(), None),
            "armel" => ("arm".to_owned(), Some("v6")),
            "armhf" | "arm" => ("arm".to_owned(), Some("v7")),
            other => (other.to_owned(), None),
        };
        let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_lowercase);
        let variant = match (architecture.as_str(), variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) | ("386", _) => None,
            ("arm", Some(number @ ("5" | "6" | "7" | "8"))) => Some(format!("v{number}")),
            (_, Some(given)) => Some(given.to_owned()),
            (_, None) => implied.map(str::to_owned),
        };
        let os = match os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        Self { architecture, os, os_version: None, variant, other: serde_json::Map::new() }
    }

    /// The platform that this binary was compiled for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// How well an image for `offered` serves this platform: higher is better, `None` not at all.
    pub fn accepts(&self, offered: &Self) -> Option<u8> {
        let offered = Self::new(&offered.os, &offered.architecture, offered.variant.as_deref());
        if self.os != offered.os {
            return None;
        }
        match (self.architecture.as_str(), offered.architecture.as_str()) {
            ("arm", "arm") => {
                let number = |variant: &Option<String>| {
                    variant.as_deref().and_then(|v| v[1..].parse::<u8>().ok()).unwrap_or(7)
                };
                let (want, have) = (number(&self.variant), number(&offered.variant));
                (have <= want).then(|| 100 - (want - have))
            }
            (want, have) if want == have => {
                if self.variant == offered.variant {
                    Some(100)
                } else if offered.variant.is_none() {
                    Some(90)
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.os_version {
            Some(version) => write!(f, "{}({version})/{}", self.os, self.architecture)?,
            None => write!(f, "{}/{}", self.os, self.architecture)?,
        }
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        // `windows(10.0.17763)/amd64`
        if let Some((system, rest)) = text.split_once('(')
            && let Some((version, rest)) = rest.split_once(")/")
            && !system.contains('/')
        {
            let is_version = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if version.is_empty() || !version.chars().all(is_version) {
                return Err(PlatformError(text.to_owned()));
            }
            let platform: Self = format!("{system}/{rest}").parse()?;
            return Ok(Self { os_version: Some(version.to_owned()), ..platform });
        }
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if !parts.iter().all(valid) {
            return Err(PlatformError(text.to_owned()));
        }
        match parts.as_slice() {
            ["local"] => Ok(Self::host()),
            ["linux"] => Ok(Self::new("linux", &Self::host().architecture, None)),
            [architecture] if is_known_architecture(architecture) => {
                Ok(Self::new("linux", architecture, None))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

fn is_known_architecture(text: &str) -> bool {
    let known = [
        "386", "i386", "i686", "amd64", "x86_64", "x86-64", "arm", "armhf", "armel", "arm64",
        "aarch64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
    ];
    known.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        text.parse::<Platform>().map_or_else(|error| error.to_string(), |p| p.to_string())
    }

    #[test]
    fn platforms_are_normalised() {
        assert_eq!(parse("linux/x86_64"), "linux/amd64");
        assert_eq!(parse("linux/arm64/v8"), "linux/arm64");
        assert_eq!(parse("linux/arm"), "linux/arm/v7");
        assert_eq!(parse("linux/arm/v6"), "linux/arm/v6");
        assert_eq!(parse("arm64"), "linux/arm64");
        assert_eq!(parse("Windows(10.0.17763)/AMD64"), "windows(10.0.17763)/amd64");
        assert!(parse("windows(10 0)/amd64").contains("is not a platform"));
        assert!(parse("a/b/c/d").contains("is not a platform"));
        assert!(parse("linux/").contains("is not a platform"));
    }

    #[test]
    fn a_platform_accepts_what_it_can_run() {
        let accepts = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| text.parse::<Platform>().expect("valid"));
            a.accepts(&b)
        };
        assert_eq!(accepts("linux/amd64", "linux/amd64"), Some(100));
        assert_eq!(accepts("linux/amd64", "linux/arm64"), None);
        assert!(accepts("linux/arm/v7", "linux/arm/v6") < accepts("linux/arm/v7", "linux/arm/v7"));
        assert_eq!(accepts("linux/arm/v6", "linux/arm/v7"), None);
    }
}

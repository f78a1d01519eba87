//! Image configs (OCI image-spec config.md; Docker image spec for `Healthcheck`, `OnBuild`,
//! `Shell` and `ArgsEscaped`).
//!
//! Field order is BuildKit's, so that equal images have equal config bytes: the document's own
//! fields by name, those of `config` in the order of Go's struct. What BuildKit does not know is
//! read over, as it is there: an image built on another one has only what is named here. As in
//! Go, `null` is the same as nothing.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::Platform;
use crate::digest::DiffId;

/// An image config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub author: Option<String>,
    /// How containers start.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// RFC 3339 time of creation.
    #[serde(default)]
    pub created: Option<String>,
    /// How each layer came to be; BuildKit writes `null` where there is none.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub history: Vec<HistoryEntry>,
    /// Operating system.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Features of the system that the image needs (Windows).
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Version of the system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "is_blank")]
    pub os_version: Option<String>,
    /// The layers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub variant: Option<String>,
}

impl ImageConfig {
    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os_version: self.os_version.clone(),
            ..Platform::new(&self.os, &self.architecture, self.variant.as_deref())
        }
    }
}

/// Layers by diff ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// Lowest first; `null` in images without layers.
    #[serde(default)]
    pub diff_ids: Option<Vec<DiffId>>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Some(Vec::new()) }
    }
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub created_by: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub author: Option<String>,
    /// Free text; BuildKit writes `buildkit.dockerfile.v0`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub comment: Option<String>,
    /// The instruction made no layer.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// How a container starts. The order of Go's `DockerOCIImageConfig`.
#[expect(clippy::zero_sized_map_values, reason = "a map to `{}` is how the format writes a set")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `USER`
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `EXPOSE`: `80/tcp`
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub exposed_ports: Option<BTreeMap<String, EmptyObject>>,
    /// `NAME=value`, in the order of definition.
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub env: Option<Vec<String>>,
    /// `ENTRYPOINT`
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub cmd: Option<Vec<String>>,
    /// `VOLUME`
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub volumes: Option<BTreeMap<String, EmptyObject>>,
    /// `WORKDIR`
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// `LABEL`
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `STOPSIGNAL`
    #[serde(default, skip_serializing_if = "is_blank")]
    pub stop_signal: Option<String>,
    /// There was a `CMD`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// `HEALTHCHECK`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthcheckConfig>,
    /// `ONBUILD`
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub on_build: Option<Vec<String>>,
    /// `SHELL`
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub shell: Option<Vec<String>>,
}

/// `{}`: how the specification writes a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EmptyObject {}

impl<'de> Deserialize<'de> for EmptyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self {})
    }
}

/// `HEALTHCHECK`; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthcheckConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Until a probe counts as failed.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two probes in the start period.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn is_blank(text: &Option<String>) -> bool {
    text.as_ref().is_none_or(String::is_empty)
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn is_empty_list(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn is_empty_map<V>(map: &Option<BTreeMap<String, V>>) -> bool {
    map.as_ref().is_none_or(BTreeMap::is_empty)
}

pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn empty_is_null<S, T>(list: &[T], serializer: S) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
    T: Serialize,
{
    let list = (!list.is_empty()).then_some(list);
    list.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_buildkit_does_not_know_is_read_over() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","author":"",
            "config":{"Env":["A=b"],"Cmd":[],"Labels":{},"Hostname":"x","User":null,
                "ExposedPorts":{"80/tcp":null},"Healthcheck":{"Test":null,"Retries":null}},
            "history":null,"rootfs":{"type":"layers","diff_ids":null},"docker_version":"1"}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("valid");
        insta::assert_snapshot!(
            serde_json::to_string(&config).expect("serialises"),
            @r#"{"architecture":"amd64","config":{"ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Healthcheck":{}},"created":null,"history":null,"os":"linux","os.version":"1","rootfs":{"type":"layers","diff_ids":null}}"#
        );
    }
}

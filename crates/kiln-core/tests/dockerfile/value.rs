//! Values of flags and of EXPOSE in the form of the tables.

use kiln_core::dockerfile::{
    Mount, Sharing, ValueError, expand, parse_duration, parse_mount_with, parse_ports, parse_size,
};
use serde_json::{Value, json};

use crate::form::variable;

/// A value that the table calls `kind`; that there is an error counts, not which.
pub(crate) fn value(kind: &str, text: &str, expected: &Value) -> Value {
    let result = match kind {
        "m" => {
            let mut expanded = |value: &str| match expand(value, '\\', &variable) {
                Ok(expansion) => Ok(expansion.text),
                Err(error) => Err(ValueError::new(error.to_string())),
            };
            parse_mount_with(text, &mut expanded).map(|mount| form(&mount))
        }
        "p" => parse_ports(text).map(|ports| json!(ports)),
        "d" => parse_duration(text).map(|nanoseconds| json!(nanoseconds)),
        _ => parse_size(text).map(|bytes| json!(bytes)),
    };
    result.unwrap_or_else(|error| match expected.get("err") {
        Some(expected) => json!({ "err": expected }),
        None => json!({ "err": error.message }),
    })
}

fn form(mount: &Mount) -> Value {
    let sharing = match mount.sharing {
        None => "",
        Some(Sharing::Shared) => "shared",
        Some(Sharing::Private) => "private",
        Some(Sharing::Locked) => "locked",
    };
    json!({
        "type": mount.kind.name(),
        "from": mount.from.as_deref().unwrap_or_default(),
        "source": mount.source.as_deref().unwrap_or_default(),
        "target": mount.target.as_deref().unwrap_or_default(),
        "ro": mount.read_only,
        "size": mount.size_bytes.unwrap_or_default(),
        "id": mount.id.as_deref().unwrap_or_default(),
        "sharing": sharing,
        "required": mount.required,
        "env": mount.env,
        "mode": mount.mode,
        "uid": mount.uid,
        "gid": mount.gid,
    })
}

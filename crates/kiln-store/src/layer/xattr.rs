//! Extended attributes that belong to a layer.
//!
//! Kept: `security.capability`, POSIX access control lists, and `user.*` except overlayfs's own
//! `user.overlay.*`. Everything else is the host's or the kernel's (`security.selinux`,
//! `trusted.*`): it differs between machines, so it enters neither index nor archive, and an
//! image cannot set it. Whoever could forge `user.overlay.*` could hide files of lower layers.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, flistxattr_query, fsetxattr};
use rustix::io::Errno;

pub(super) const CAPABILITY: &[u8] = b"security.capability";
pub(super) const OPAQUE: &[u8] = b"user.overlay.opaque";
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// The kernel's limit for one value (`XATTR_SIZE_MAX`).
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Whether a layer keeps the attribute `name`.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == CAPABILITY
        || ACCESS_LISTS.contains(&name)
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The attributes of one file, sorted out.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// What the layer keeps.
    pub(super) kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether overlayfs's opaque marker is set.
    pub(super) opaque: bool,
}

/// Reads the attributes of an open file or directory.
pub(super) fn read(fd: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut xattrs = Xattrs::default();
    let mut small = [0; 512];
    let mut large;
    let names = match flistxattr(fd, &mut small[..]) {
        Ok(length) => &small[..length],
        Err(Errno::OPNOTSUPP) => return Ok(xattrs),
        Err(Errno::RANGE) => {
            large = vec![0; flistxattr_query(fd)?];
            let length = flistxattr(fd, &mut large[..])?;
            &large[..length]
        }
        Err(error) => return Err(error),
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name == OPAQUE {
            xattrs.opaque = value(fd, name)? == b"y";
        } else if is_kept(name) {
            xattrs.kept.insert(name.to_vec(), value(fd, name)?);
        }
    }
    Ok(xattrs)
}

fn value(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match fgetxattr(fd, name, &mut small[..]) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; VALUE_BYTES_MAX];
            let length = fgetxattr(fd, name, &mut large[..])?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// Sets attributes on an open file or directory. Those that the file system or the kind of file
/// does not support are taken out of `xattrs`.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    xattrs: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), Errno> {
    let mut unsupported = Vec::new();
    for (name, value) in &*xattrs {
        match fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => unsupported.push(name.clone()),
            Err(error) => return Err(error),
        }
    }
    for name in unsupported {
        xattrs.remove(&name);
    }
    Ok(())
}

/// Marks an open directory as opaque.
pub(super) fn mark_opaque(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::is_kept;

    #[test]
    fn only_what_an_image_may_carry_is_kept() {
        assert!(is_kept(b"security.capability") && is_kept(b"user.comment"));
        assert!(is_kept(b"system.posix_acl_default"));
        for name in [
            &b"user.overlay.opaque"[..],
            b"user.overlay.overlay.opaque",
            b"trusted.overlay.opaque",
            b"trusted.x",
            b"security.selinux",
            b"security.ima",
        ] {
            assert!(!is_kept(name));
        }
    }
}

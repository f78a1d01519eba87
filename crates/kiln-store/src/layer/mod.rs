//! Layers: one diff of a file system, as a directory, as an index and as a tar archive.
//!
//! On disk a layer is a directory in overlayfs upper format with `userxattr` conventions, for
//! root too: a whiteout is a character device 0/0, an opaque directory carries the extended
//! attribute `user.overlay.opaque` = `y`. In memory it is a [`LayerIndex`], and a chain of those
//! is a [`Tree`]. On the wire it is a tar archive after the OCI image-spec, layer.md.
//!
//! ```text
//! directory ──scan──▶ LayerIndex ──write_tar──▶ tar ──Compressor──▶ blob      (pack: all at once)
//! blob ──decompressor──▶ tar ──apply_tar──▶ directory + LayerIndex           (unpack: all at once)
//! Listing (an index and where its bytes are) ──write_files──▶ directory, or ──pack──▶ blob
//! ```
//!
//! The index is the truth and the directory its best realisation: where the user namespace maps
//! no such owner, or forbids a device node, the index keeps what the archive said while the
//! directory holds kiln's own owner, or an empty file in the device's place.
//!
//! Nothing here calls fsync, renames into place or locks: durability is the store's.

mod adopt;
mod beneath;
mod compress;
mod content;
mod decompress;
mod encoder;
mod extract;
mod frames;
mod index;
mod index_format;
mod listing;
mod metadata;
mod noise;
mod outline;
mod pack;
mod path;
mod pipe;
mod pyc;
mod resume;
mod scan;
mod sparse;
mod stargz;
mod tar_apply;
mod tar_header;
mod tar_read;
mod tar_write;
mod tree;
mod unpacked;
mod xattr;

pub use adopt::adopt;
pub use compress::{Compressed, Compression, Compressor};
pub use content::{ContentHasher, Ignored};
pub use decompress::{Decompressor, decompressor};
pub use extract::extract;
pub use frames::{Frames, OldFrames};
pub use index::{Entry, EntryKind, LayerIndex, Timestamp};
pub use listing::{Contents, Keeper, Listing, Origin, SourceDirectory, set_times, write_files};
pub use outline::archive_bytes;
pub use pack::{BlobCheck, Packed, Packing, Unpack, pack, recompress, unpack};
pub use path::path_order;
pub use resume::DigestWriter;
pub use scan::scan;
pub use stargz::{Stargz, write_stargz};
pub use tar_apply::apply_tar;
pub use tar_header::plain_header;
pub use tar_read::{Member, MemberKind, TarReader};
pub use tar_write::{TarOptions, TarTimes, TarXattrs, write_tar};
pub use tree::{LastSymlink, ResolveError, Tree, Walk};

"""An image to transfer, made by nobody who is measured: layers of files of all sizes, an OCI layout."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

from scenarios import source_text

SIZES = [2_000, 10_000, 60_000, 500_000, 6_000_000]  # of files, in bytes; equal shares of the layer
MANIFEST, CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer_tar(size_bytes: int, seed: int) -> bytes:
    """A layer of that many bytes of files; half of them compress as source code does, half not at all."""
    random_ = random.Random(seed)
    text = source_text(1 << 20, random_)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        number = 0
        for size in SIZES:
            for _ in range(max(1, size_bytes // len(SIZES) // size)):
                start = random_.randrange(len(text) - 2_000)
                words = text[start : start + size // 2]
                content = (words * (size // 2 // len(words) + 1))[: size // 2] + random_.randbytes(size - size // 2)
                entry = tarfile.TarInfo(f"data/l{seed}/d{number // 200}/f{number}")
                entry.size, entry.mode, entry.mtime = len(content), 0o644, 1_700_000_000
                archive.addfile(entry, io.BytesIO(content))
                number += 1
    return out.getvalue()


class Layout:
    """An OCI layout into which images are put."""

    def __init__(self, path: Path):
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.images: list[dict] = []
        self.layers: dict[tuple[int, int], tuple[dict, str]] = {}

    def put(self, content: bytes, media_type: str) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def layer(self, size_bytes: int, seed: int) -> tuple[dict, str]:
        """A layer's descriptor and diff ID."""
        if (size_bytes, seed) not in self.layers:
            plain = layer_tar(size_bytes, seed)
            descriptor = self.put(gzip.compress(plain, 4, mtime=0), LAYER)
            self.layers[size_bytes, seed] = descriptor, f"sha256:{hashlib.sha256(plain).hexdigest()}"
        return self.layers[size_bytes, seed]

    def image(self, tag: str, size_bytes: int, seeds: list[int]) -> str:
        """An image of one layer for each seed, `size_bytes` in all; gives its tag."""
        layers = [self.layer(size_bytes // len(seeds), seed) for seed in seeds]
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
                  "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
                  "history": [{"created_by": f"layer {seed}"} for seed in seeds]}  # fmt: skip
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.put(json.dumps(config).encode(), CONFIG),
                    "layers": [descriptor for descriptor, _ in layers]}  # fmt: skip
        descriptor = self.put(json.dumps(manifest).encode(), MANIFEST)
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
        self.images.append(descriptor)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.images}))
        return tag

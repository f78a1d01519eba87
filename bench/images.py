"""What is in an image, read from its archive by nothing but Python: to tell that all builders built the same.

OCI archives (`index.json`) and those of `docker save` (`manifest.json`) are read. Layers are laid over
each other, with their whiteouts.
"""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

ZSTD = b"\x28\xb5\x2f\xfd"


def files(archive: Path, below: str, ending: str = "") -> dict[str, str]:
    """The regular files below a directory of an image: mode, owner, size and digest by path."""
    found: dict[str, str] = {}
    with tarfile.open(archive, "r:") as image:
        for layer in layers(image):
            lay(read_layer(image.extractfile(layer)), below, found)
    return {path: what for path, what in found.items() if path.endswith(ending) and what}


def layers(image: tarfile.TarFile) -> list[str]:
    """Names of the layers' members, lowest first."""
    names = image.getnames()
    if "manifest.json" in names:
        return [str(name) for name in member(image, "manifest.json")[0]["Layers"]]
    document = member(image, "index.json")
    while "manifests" in document:
        document = member(image, blob(document["manifests"][0]["digest"]))
    return [blob(layer["digest"]) for layer in document["layers"]]


def blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def member(image: tarfile.TarFile, name: str):
    return json.load(image.extractfile(name))


def read_layer(stream: io.BufferedIOBase) -> tarfile.TarFile:
    """A layer's own archive, decompressed. Gzip may have several members, which tarfile alone stops after."""
    start = stream.read(4)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        return tarfile.open(fileobj=gzip.GzipFile(fileobj=stream), mode="r|")
    if start == ZSTD:
        plain = subprocess.run(["zstd", "-dc"], input=stream.read(), stdout=subprocess.PIPE, check=True).stdout
        return tarfile.open(fileobj=io.BytesIO(plain), mode="r|")
    return tarfile.open(fileobj=stream, mode="r|")


def lay(layer: tarfile.TarFile, below: str, found: dict[str, str]) -> None:
    """Lay a layer over what is found so far. A hard link is the file that it links to."""
    prefix, added = below.strip("/") + "/", {}
    for entry in layer:
        path = entry.name.removeprefix("./").strip("/")
        directory, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            remove(found, directory, inside_only=True)
        elif name.startswith(".wh."):
            remove(found, f"{directory}/{name[4:]}".strip("/"))
        elif entry.isdir():
            found.pop(path, None)
        elif not path.startswith(prefix):
            continue
        elif entry.islnk():
            target = entry.linkname.removeprefix("./").strip("/")
            added[path] = added.get(target) or found.get(target, "a link to something else")
        elif entry.isreg():
            digest = hashlib.file_digest(layer.extractfile(entry), "sha256").hexdigest()
            added[path] = f"{entry.mode & 0o7777:o} {entry.uid}:{entry.gid} {entry.size} {digest}"
        else:
            added[path] = ""
    found.update(added)


def remove(found: dict[str, str], path: str, inside_only: bool = False) -> None:
    """Take a path and all below it out."""
    start = f"{path}/" if path else ""
    for each in [each for each in found if each.startswith(start) or (each == path and not inside_only)]:
        del found[each]


def digest(found: dict[str, str]) -> str:
    """One digest of all files."""
    text = "".join(f"{path} {what}\n" for path, what in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

python3 - <<'PY'
import io
import tarfile

def make(name, members):
    with tarfile.open(name, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, more in members:
            m = tarfile.TarInfo(path)
            m.type, m.mode, m.mtime = kind, 0o644, 1500000000
            for key, value in more.items():
                setattr(m, key, value)
            m.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(m, io.BytesIO(b"text\n"))

FILE, DIR, LINK, SYMLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
make("names.tar", [("", FILE, {}), ("a/..", DIR, {"mode": 0o700}), ("../x", FILE, {}),
                   ("..", DIR, {"mode": 0o711, "uid": 7}), ("f/", FILE, {}), ("old", FILE, {"mtime": -5})])
make("hard.tar", [("t", FILE, {"mode": 0o600}), ("d/h", LINK, {"linkname": "t", "mode": 0o711, "uid": 5}),
                  ("lnk", SYMLINK, {"linkname": "d"}), ("lnk/sub/g", FILE, {})])
make("cut", [("f", FILE, {})])
PY
truncate -s 3M hole
printf x | dd of=hole bs=1 seek=1000000 conv=notrunc status=none
tar --format=posix -Scf sparse.tar hole
truncate -s 900 cut
rm hole

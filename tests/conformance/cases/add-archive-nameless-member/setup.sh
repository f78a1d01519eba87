python3 - <<'PY'
import io, tarfile
with tarfile.open("nameless.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
    for name, data in (("", b""), ("app/file", b"in\n"), ("one", b"one\n")):
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.uid = len(data), 1600000000, 1001
        tar.addfile(member, io.BytesIO(data))
PY

mkdir -p http
echo one > http/a.txt; echo two > 'http/b c.txt'; echo q > 'http/a[1].txt'; echo z > 'http/p%z'
tar cf http/t.tar -C http --mtime=@0 --owner=0 --group=0 a.txt; gzip -kn http/t.tar
tar cf local.tar --mtime=@0 --owner=0 --group=0 -C http a.txt

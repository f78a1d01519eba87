mkdir real
touch real/f
ln -s nowhere s
tar cf a.tar s
tar rf a.tar --transform 's,^real,s,' real/f

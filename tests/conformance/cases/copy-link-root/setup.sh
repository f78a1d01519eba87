tar -cf a.tar f

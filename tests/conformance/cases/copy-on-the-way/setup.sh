mkdir -p p/q
echo f > p/q/f
chmod 711 p/q

echo f > f
mkdir -p d/e
echo g > d/e/g
chmod 7451 f
chmod 1750 d/e

set -e
mkdir -p http; top=$PWD
export GIT_AUTHOR_DATE="2020-01-02T03:04:05Z" GIT_COMMITTER_DATE="2020-01-02T03:04:05Z" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
d=$(mktemp -d); cd $d
git init -q -b main repo; cd repo
mkdir -p sub/deep bin
echo one > file; echo sh > bin/run; chmod 755 bin/run; ln -s file link; ln -s ../file sub/link; echo deep > sub/deep/f; echo "*.o" > .gitignore; echo x > .dockerignore
tar cf sub/a.tar --mtime=@0 --sort=name --owner=0 --group=0 file; chmod 600 sub/a.tar
git add -A; git commit -q -m one
git tag v1; git tag -a -m annotated v2
git checkout -q -b other; echo other > other; git add -A; git commit -q -m two
git checkout -q -b feature/x; echo x > x; git add -A; git commit -q -m three
git checkout -q main
cd ..
git clone -q --bare --no-hardlinks repo out.git
cd out.git; git update-server-info; rm -rf hooks

cp -r $d/out.git $top/http/repo.git; rm -rf $d
cd $top

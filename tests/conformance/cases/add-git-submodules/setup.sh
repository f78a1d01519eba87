set -e
mkdir -p http; top=$PWD
export GIT_AUTHOR_DATE="2020-01-02T03:04:05Z" GIT_COMMITTER_DATE="2020-01-02T03:04:05Z" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
d=$(mktemp -d); cd $d
git init -q -b main in; cd in; echo inner > inner; git add -A; git commit -q -m in; cd ..
git clone -q --bare in in.git; (cd in.git; git update-server-info; rm -rf hooks)
git init -q -b main repo; cd repo; echo out > out; mkdir d; echo x > d/x; printf '[submodule "in"]\n\tpath = d/in\n\turl = ../in.git\n' > .gitmodules
git add -A; git update-index --add --cacheinfo 160000,$(git -C ../in rev-parse HEAD),d/in
git commit -q -m one; git tag -a -m t v1; cd ..
git clone -q --bare repo out.git; (cd out.git; git update-server-info; rm -rf hooks)
cp -r in.git out.git $top/http/; rm -rf $d; cd $top

//! `kiln init`.

use insta::assert_snapshot;

use crate::fixture::Project;

#[test]
fn init_output() {
    let project = Project::new("");
    project.write("shop/requirements.txt", "fastapi==0.115\nuvicorn==0.34\npytest\n");
    project.write("shop/main.py", "from fastapi import FastAPI\n\napp = FastAPI()\n");
    project.write("shop/test_main.py", "def test_app(): ...\n");
    assert_snapshot!(project.shown(&["init", "shop"]), @r"
    status: 0
    --- stdout
    shop: a Python project
      dependencies   requirements                                  requirements.txt is there
      Python         3.12                                          nothing asks for another
      sources        main.py                                       no package that is built: the files are copied
      serves         FastAPI, main:app                             main.py
      starts with    uvicorn main:app --host 0.0.0.0 --port 8000   uvicorn is among the dependencies
      tests          pytest                                        test_main.py; pytest is among the dependencies

      wrote     Dockerfile  (7 stages)
      wrote     .dockerignore
      wrote     docker-compose.yml
      wrote     docker-compose.buildkit.yml
      wrote     docker-bake.hcl
      wrote     kiln.toml
      wrote     Makefile
      wrote     .github/workflows/docker-build-cache.yml
      wrote     .gitlab-ci.yml

    next: `make docker-build-all` builds every stage, `make help` says what else there is
    --- stderr
    ");
    assert_snapshot!(project.shown(&["init", "shop"]), @r"
    status: 0
    --- stdout
    shop: a Python project
      dependencies   requirements                                  requirements.txt is there
      Python         3.12                                          nothing asks for another
      sources        main.py                                       no package that is built: the files are copied
      serves         FastAPI, main:app                             main.py
      starts with    uvicorn main:app --host 0.0.0.0 --port 8000   uvicorn is among the dependencies
      tests          pytest                                        test_main.py; pytest is among the dependencies

      unchanged Dockerfile
      unchanged .dockerignore
      unchanged docker-compose.yml
      unchanged docker-compose.buildkit.yml
      unchanged docker-bake.hcl
      unchanged kiln.toml
      unchanged Makefile
      unchanged .github/workflows/docker-build-cache.yml
      unchanged .gitlab-ci.yml
    --- stderr
    ");
    assert_snapshot!(project.shown(&["init", "--diff", "shop"]), @r"
    status: 0
    --- stdout
    --- stderr
    ");
}

#[test]
fn init_error() {
    let project = Project::new("");
    assert_snapshot!(project.shown(&["init"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[init]: no pyproject.toml, requirements.txt or setup.py is there
     help: kiln init knows uv, Poetry, requirements.txt, pyproject.toml and setup.py; `kiln init DIR` looks elsewhere
    ");
    assert_snapshot!(project.shown(&["init", "shop"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[file]: cannot open shop: no such file or directory
    ");
    project.write("other/Pipfile", "");
    assert_snapshot!(project.shown(&["init", "other"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[init]: Pipfile is there, which kiln does not read
     help: `pipenv requirements > requirements.txt` writes what kiln reads
    ");
}

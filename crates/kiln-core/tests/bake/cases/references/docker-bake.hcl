OUT = "${target.base.context}/out"
target "default" {
  context = target.base.context
  dockerfile = "${target.base.dockerfile}.dev"
  args = { ALL = join(",", target.base.tags), CACHE = target.base.cache-from[0].type, N = length(target.base.platforms), ARG = target.base.args["K"], NAME = target.base.name, OUT = OUT, G = group.all.targets[0] }
  tags = [for t in target.base.tags : "${t}-dev"]
  cache-from = target.base.cache-from
  secret = target.base.secret
  output = target.base.output
  contexts = { base = "target:base", img = "docker-image://alpine:3", dir = "cwd://x", repo = "https://example.org/r.git" }
}
target "base" {
  context = "src"
  dockerfile = "D"
  tags = ["a:1", "b:1"]
  cache-from = ["type=local,src=c"]
  platforms = ["linux/amd64"]
  args = { K = "v" }
  secret = ["id=x,env=X"]
  output = ["type=tar,dest=o.tar"]
}
group "all" { targets = ["default", "base"] }

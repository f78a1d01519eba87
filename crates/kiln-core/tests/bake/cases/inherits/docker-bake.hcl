variable "REGISTRY" { default = "ghcr.io/acme" }
variable "SHA" { default = null }
group "default" { targets = ["services", "worker"] }
group "services" {
  description = "What answers requests"
  targets = ["api", "beat", "api"]
}
target "base" {
  context = "./app/"
  dockerfile = "docker/../Dockerfile"
  args = { A = "base", B = "base", N = null, NUM = 3, FLAG = true }
  labels = { "org.opencontainers.image.source" = "https://example.org/a?b=<c>&d" }
  cache-from = ["type=gha", { type = "registry", ref = "${REGISTRY}/cache" }, "acme/other"]
  cache-to = ["type=gha,mode=max"]
  secret = ["id=token,env=TOKEN", { id = "pip", src = "pip.conf" }]
  ssh = ["default"]
  attest = ["type=provenance,mode=max", { type = "sbom", disabled = true }]
  annotations = ["index:a=b"]
  output = ["type=image"]
  ulimits = ["nofile=1:2"]
  extra-hosts = { db = "10.0.0.1" }
  shm-size = "64m"
  no-cache-filter = ["a"]
  entitlements = ["security.insecure"]
}
target "meta" {
  args = { B = "meta", C = "meta" }
  tags = []
  annotations = ["c=d"]
  no-cache-filter = ["b", "a"]
  pull = true
}
target "api" {
  description = "The API"
  inherits = ["base", "meta"]
  target = "api"
  args = { C = "api" }
  tags = ["${REGISTRY}/api:${SHA != null ? SHA : "dev"}", "${REGISTRY}/api:latest", "${REGISTRY}/api:latest"]
  cache-from = ["type=gha"]
  attest = ["type=sbom"]
  network = "host"
}
target "beat" {
  inherits = ["api"]
  target = "beat"
  tags = ["${REGISTRY}/beat"]
  no-cache = false
  contexts = { shared = "../shared", empty = "", lib = "target:lib" }
}
target "worker" {
  inherits = ["beat"]
  output = ["./out", { type = "local", dest = "x", "platform-split" = "false" }]
}
target "lib" {
  inherits = ["lib"]
  context = "https://github.com/acme/lib.git#main:sub"
  entitlements = ["network.host"]
}

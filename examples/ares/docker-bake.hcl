# The builds of ares, made by `kiln init`: `kiln bake`, or `docker buildx bake`.
#
#   kiln bake                      production
#   kiln bake all                  every stage, in one plan
#   kiln bake release --push       images for all platforms
#   kiln bake --print all          what would be built

variable "IMAGE" {
  default = "ares"
}

variable "VERSION" {
  default = "latest"
}

variable "PYTHON_VERSION" {
  default = "3.12"
}

# Where machines share what they have built, e.g. registry.example/ares:cache
variable "CACHE" {
  default = ""
}

group "default" {
  targets = ["production"]
}

group "all" {
  targets = ["base", "core-deps", "dev-deps", "app", "production", "development", "testing", "celery-worker", "celery-beat"]
}

group "services" {
  targets = ["production", "celery-worker", "celery-beat"]
}

group "ci" {
  targets = ["testing", "production"]
}

target "_common" {
  context    = "."
  dockerfile = "Dockerfile"
  args = {
    PYTHON_VERSION = PYTHON_VERSION
  }
  cache-from = CACHE == "" ? [] : ["type=registry,ref=${CACHE}"]
  cache-to   = CACHE == "" ? [] : ["type=registry,ref=${CACHE},mode=max"]
}

target "base" {
  inherits = ["_common"]
  target   = "base"
  tags     = ["${IMAGE}:base"]
}

target "core-deps" {
  inherits = ["_common"]
  target   = "core-deps"
  tags     = ["${IMAGE}:core-deps"]
}

target "dev-deps" {
  inherits = ["_common"]
  target   = "dev-deps"
  tags     = ["${IMAGE}:dev-deps"]
}

target "app" {
  inherits = ["_common"]
  target   = "app"
  tags     = ["${IMAGE}:app"]
}

target "production" {
  inherits = ["_common"]
  target   = "production"
  tags     = ["${IMAGE}:production"]
}

target "development" {
  inherits = ["_common"]
  target   = "development"
  tags     = ["${IMAGE}:development"]
}

target "testing" {
  inherits = ["_common"]
  target   = "testing"
  tags     = ["${IMAGE}:testing"]
}

target "celery-worker" {
  inherits = ["_common"]
  target   = "celery-worker"
  tags     = ["${IMAGE}:celery-worker"]
}

target "celery-beat" {
  inherits = ["_common"]
  target   = "celery-beat"
  tags     = ["${IMAGE}:celery-beat"]
}

# Each image that runs in production, for each platform: release-production-linux-arm64, …
target "release" {
  name = "release-${stage}-${replace(platform, "/", "-")}"
  matrix = {
    stage    = ["production", "celery-worker", "celery-beat"]
    platform = ["linux/amd64", "linux/arm64"]
  }
  inherits  = [stage]
  platforms = [platform]
  tags      = ["${IMAGE}:${VERSION}-${stage}-${replace(platform, "/", "-")}"]
}

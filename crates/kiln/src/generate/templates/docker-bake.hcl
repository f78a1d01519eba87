# The builds of [[ name ]], made by `kiln init`: `kiln bake`, or `docker buildx bake`.
#
#   kiln bake                      production
#   kiln bake all                  every stage, in one plan
#   kiln bake release --push       images for all platforms
#   kiln bake --print all          what would be built

variable "IMAGE" {
  default = "[[ name ]]"
}

variable "VERSION" {
  default = "latest"
}

variable "PYTHON_VERSION" {
  default = "[[ python ]]"
}

# Where machines share what they have built, e.g. registry.example/[[ name ]]:cache
variable "CACHE" {
  default = ""
}

group "default" {
  targets = ["production"]
}

group "all" {
  targets = [[ stages|exec_form ]]
}
{% if celery %}

group "services" {
  targets = [[ images|exec_form ]]
}
{% endif %}
{% if testing %}

group "ci" {
  targets = ["testing", "production"]
}
{% endif %}

target "_common" {
  context    = "."
  dockerfile = "Dockerfile"
  args = {
    PYTHON_VERSION = PYTHON_VERSION
  }
  cache-from = CACHE == "" ? [] : ["type=registry,ref=${CACHE}"]
  cache-to   = CACHE == "" ? [] : ["type=registry,ref=${CACHE},mode=max"]
}
{% for stage in stages %}

target "[[ stage ]]" {
  inherits = ["_common"]
  target   = "[[ stage ]]"
  tags     = ["${IMAGE}:[[ stage ]]"]
}
{% endfor %}

# Each image that runs in production, for each platform: release-production-linux-arm64, …
target "release" {
  name = "release-${stage}-${replace(platform, "/", "-")}"
  matrix = {
    stage    = [[ images|exec_form ]]
    platform = ["linux/amd64", "linux/arm64"]
  }
  inherits  = [stage]
  platforms = [platform]
  tags      = ["${IMAGE}:${VERSION}-${stage}-${replace(platform, "/", "-")}"]
}

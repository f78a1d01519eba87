group "default" { targets = ["app", "docs"] }
target "_common" {
  platforms = ["linux/amd64", "linux/arm64"]
  labels = { team = "data" }
}
target "app" {
  name = "app-${replace(py, ".", "-")}-${variant.name}"
  matrix = {
    py = ["3.11", "3.12"]
    variant = [{ name = "slim", base = "slim-bookworm" }, { name = "full", base = "bookworm" }]
  }
  inherits = ["_common"]
  args = { PYTHON = py, BASE = "python:${py}-${variant.base}" }
  tags = ["acme/app:${py}-${variant.name}", py == "3.12" && variant.name == "slim" ? "acme/app:latest" : ""]
}
target "docs" {
  matrix = { one = ["x"] }
  name = "docs"
  contexts = { app = "target:app-3-12-slim" }
}

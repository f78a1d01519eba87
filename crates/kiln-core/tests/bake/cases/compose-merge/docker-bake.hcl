group "default" { targets = ["b"] }
target "b" {
  inherits = ["a"]
  args = { FROM = "hcl" }
}

variable "TAG" { default = "1" }
group "default" { targets = ["a", "b"] }
target "a" {
  context = "one"
  tags = ["a:${TAG}"]
  args = { X = "1", Y = "1" }
  contexts = { c = "./c" }
}
target "b" {
  inherits = ["a"]
  args = { Z = target.a.args.Y }
}

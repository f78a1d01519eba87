variable "TAG" { default = "2" }
target "a" {
  dockerfile = "Other"
  args = { Y = "2" }
  contexts = { d = "./d" }
  platforms = ["linux/arm64"]
}

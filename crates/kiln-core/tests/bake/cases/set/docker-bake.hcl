group "default" { targets = ["web", "api-1", "api-2"] }
target "web" { tags = ["web"] }
target "api-1" {
  output = ["type=docker"]
  platforms = ["linux/amd64"]
  cache-from = ["a"]
}
target "api-2" {
  inherits = ["api-1"]
  output = ["type=local,dest=out"]
  secret = ["id=s,src=a"]
}

variable "STR" { default = "a" }
variable "NUM" { default = 3 }
variable "FLAG" { default = false }
variable "NONE" {}
variable "TYPED" { type = string }
variable "LIST" {
  type = list(string)
  default = ["x"]
  description = "names"
}
variable "NUMS" {
  type = list(number)
  default = [1]
}
variable "SET" {
  type = set(string)
  default = ["b", "a", "b"]
}
variable "MAP" {
  type = map(string)
  default = { a = "1" }
}
variable "OBJ" {
  type = object({ name = string, port = number })
  default = { name = "n", port = "80" }
  validation {
    condition = OBJ.port > 0
    error_message = "The port is positive."
  }
}
variable "TUP" {
  type = tuple([string, number])
  default = ["a", 1]
}
variable "DEEP" { default = { a = [1, { b = true }] } }
LATER = "${EARLY}!"
EARLY = upper(STR)
target "default" {
  args = {
    STR = STR, NUM = NUM + 1, FLAG = FLAG ? "on" : "off", NONE = NONE, TYPED = TYPED == null ? "null" : TYPED, LIST = join("+", LIST), NUMS = jsonencode(NUMS)
    SET = join("+", SET), MAP = jsonencode(MAP), OBJ = "${OBJ.name}:${OBJ["port"]}", TUP = jsonencode(TUP), DEEP = DEEP.a[1].b, LATER = LATER
    SPLAT = join(",", [{ n = "a" }, { n = "b" }][*].n), CONTEXT = BAKE_CMD_CONTEXT, FOR = join(",", [for k, v in MAP : "${k}=${v}" if v != ""])
    GROUPED = jsonencode({ for w in ["ab", "ac", "b"] : substr(w, 0, 1) => w... })
  }
}

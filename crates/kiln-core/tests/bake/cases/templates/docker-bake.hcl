variable "X" { default = "v" }
target "default" {
  annotations = ["a=$${X}"]
  args = {
    RAW = "$${X} and %%{if}", NESTED = "a${"b${"c"}"}d", MAPKEY = { (X) = "dyn", "lit" = 1 }["v"], COND = X == "v" ? 1 : "s", SETCOND = jsonencode(X == "v" ? ["b", "a"] : setunion(["c"], [])), LISTCOND = jsonencode(X == "" ? ["a"] : ["b", "c"])
    LEGACY = [["a", "b"]].0[1], NEG = -1, PAREN = (1 + 2) * 3, PREC = 1 + 2 * 3 == 7 && !false, STR_NUM = "2" * "3", FLOAT = 1.50, BOOLSTR = "${true}"
    HEREDOC = <<EOT
%{ for n in [1, 2] ~}
n=${n}
%{ endfor ~}
%{ if X == "v" }
yes
%{ else }
no
%{ endif }
EOT
    INDENTED = <<-EOT
        a
          b ${X}
      EOT
  }
}

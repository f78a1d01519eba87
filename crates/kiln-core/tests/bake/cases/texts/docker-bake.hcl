target "default" {
  args = {
    b64 = base64encode("héllo"), unb64 = base64decode("aGVsbG8="), base = basename("/a/b/c.txt"), dir = dirname("/a/b/c.txt"), chomp = chomp("a\n\n")
    csv = jsonencode(csvdecode("a,b\n1,\"x,y\"\n")), fmt = format("%s-%03d|%5.1f|%-4s|%q|%v|%#v|%t|%x|%%", "a", 7, 3.14159, "z", "q\"q", [1, "a"], { a = 1 }, true, 255)
    fmtlist = join(";", formatlist("%s=%s", ["a", "b"], "x")), indent = indent(2, "a\nb"), join = join("-", ["a", "b"], ["c"]), json = jsonencode({ a = [1, true, null, "<&>"] })
    unjson = jsondecode("{\"a\": [1, 2]}").a[1], lower = lower("ÀB"), upper = upper("àb"), md5 = md5("x"), sha1 = sha1("x"), sha256 = sha256("x"), sha512 = sha512("x")
    regex = regex("[0-9]+", "ab12cd34"), groups = jsonencode(regex("(\\w)(\\d)", "x1")), named = regex("(?P<maj>\\d+)\\.(?P<min>\\d+)", "v3.12").min
    all = jsonencode(regexall("[a-z]", "1a2b")), rr = regex_replace("v1.2.3", "v(\\d+)\\.(\\d+).*", "$1-$2"), replace = replace("a.b.c", ".", "_"), reverse = reverse("añb")
    san = sanitize("py3.12/x y"), split = jsonencode(split(",", "a,,b")), strlen = strlen("é€"), substr = substr("hello", 1, 3), tail = substr("hello", -3, -1)
    title = title("hello wORLD-x"), trim = trim("xxaxx", "x"), prefix = trimprefix("v1", "v"), suffix = trimsuffix("a.txt", ".txt"), space = trimspace("  a \n"), url = urlencode("a b&c/d?=ä")
    uuid = uuidv5("dns", "example.org"), heredoc = <<-EOT
      one ${upper("two")}
        three
    EOT
    if = "%{ if true }yes%{ else }no%{ endif }", for = "%{ for x in ["a", "b"] ~} ${x}, %{ endfor }", strip = "a ${~ "b" ~} c", escaped = "$${not} %%{if}", unicode = "\u00e9\t\"\\"
  }
  dockerfile-inline = <<EOT
FROM alpine
RUN echo "$${HOME}" && echo <a>
EOT
}

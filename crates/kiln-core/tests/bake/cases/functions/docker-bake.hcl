variable "LIST" { default = "c,a,b,a" }
function "tag" {
  params = [name]
  variadic_params = versions
  result = [for v in length(versions) == 0 ? ["latest"] : versions : "acme/${name}:${v}"]
}
function "double" {
  params = [n]
  result = n * 2
}
target "default" {
  tags = concat(tag("a"), tag("b", "1", "2"), tag("c", ["3", "4"]...))
  args = {
    add = add(1, 2.5), abs = absolute(-4), ceil = ceil(1.2), floor = floor(-1.2), div = 7 / 2, mod = -7 % 3, third = divide(9, 3)
    dbl = double(21), int = int(3.9), log = log(16, 2), pow = pow(2, 10), sign = signum(-3), max = max(3, "12", 7), min = min(3, 2)
    big = 12345678901234567890 + 1, tenths = 0.1 + 0.2, exp = 1e3, parse = parseint("ff", 16), neg = -(-2)
    and = and(true, false), or = true || false, not = !true, eq = "a" == "a", ne = 1 != 2, cmp = 2 >= 2
    mixed = 1 == "1", null_eq = null == null, coalesce = coalesce(null, "x"), clist = join(",", coalescelist([], ["y"]))
    chunk = jsonencode(chunklist(["a", "b", "c"], 2)), compact = join(",", compact(["a", "", "b"])), contains = contains(["a", "b"], "b")
    distinct = join(",", distinct(split(",", LIST))), elem = element(["a", "b", "c"], 4), flat = jsonencode(flatten([["a"], [["b"], "c"]]))
    idx = index(["a", "b"], 1), idxof = indexof(["a", "b"], "b"), has = hasindex(["a"], 3), keys = join(",", keys({ b = 1, a = 2 }))
    len = length(["a"]), lookup = lookup({ a = "1" }, "b", "none"), merge = jsonencode(merge({ a = 1 }, { b = 2, a = 3 }))
    range = jsonencode(range(1, 10, 4)), rev = join("", reverselist(["a", "b"])), slice = join(",", slice(["a", "b", "c"], 1, 3))
    sort = join(",", sort(["b", "c", "a"])), values = jsonencode(values({ b = 1, a = 2 })), zip = jsonencode(zipmap(["x", "y"], [1, 2]))
    union = join(",", setunion(["b"], ["a", "b"])), inter = join(",", setintersection(["a", "b"], ["b"])), sub = join(",", setsubtract(["a", "b"], ["b"]))
    sym = join(",", setsymmetricdifference(["a", "b"], ["b", "c"])), prod = jsonencode(setproduct(["a", "b"], ["1", "2"]))
    set = jsonencode(convert(["b", "a", "b"], set(string))), conv = convert("12", number) + 1, can = can(1 + "x"), try = try(nothing.here, "fallback")
    cidrhost = cidrhost("10.1.2.240/28", 3), mask = cidrnetmask("172.16.0.0/12"), subnet = cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162)
    subnets = jsonencode(cidrsubnets("10.1.0.0/16", 4, 4, 8, 4)), semver = semvercmp("1.2.3", ">= 1.2, < 2"), semx = semvercmp("2.0.0-rc.1", "1.x || ^2")
  }
}

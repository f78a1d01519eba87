target "default" {
  args = {
    date = formatdate("EEEE, DD-MMM-YY hh:mm:ss ZZZ", "2025-09-16T14:54:40-07:00"), iso = formatdate("YYYY-MM-DD'T'hh:mm:ssZ", "2025-09-16T14:54:40Z"), am = formatdate("H:mm aa, M/D", "2025-01-02T00:04:05Z")
    unix = formattimestamp("YYYY", 1690328596), x = formattimestamp("X", "2025-09-16T14:54:40Z"), add = timeadd("2025-09-16T14:54:40Z", "-1h30m10.5s"), off = timeadd("2025-12-31T23:00:00+02:00", "2h")
    parts = jsonencode(unixtimestampparse(1690328596))
  }
}

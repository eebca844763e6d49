# Prints the output of failed tests and packages, from the output of `go test -json`.
[inputs | fromjson?]
| (.[] | select(.Action == "build-output").Output),
  (map(select(.Package)) | group_by([.Package, .Test])[] | select(any(.Action == "fail"))[] | select(.Action == "output").Output)

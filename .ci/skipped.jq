# Lists the skipped tests in the output of `go test -json`, each with its reason:
#   go test -count=1 -json ./... | jq -nrRf .ci/skipped.jq
[inputs | fromjson? | select(.Test)]
| group_by([.Package, .Test])[]
| select(any(.Action == "skip"))
| "\(.[0].Package) \(.[0].Test): " + (
    [.[] | select(.Action == "output").Output | select(test("^(===|\\s*---) ") | not) | gsub("^\\s+|\\s+$"; "")]
    | join(" ")
    | sub(" testscript\\.go:[0-9]+: WORK=.*"; "")) # lines that testscript logs itself

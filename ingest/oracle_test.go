package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The readers that others wrote. Each is one process that is given the paths of
// artifacts, loads each line of what is named .jsonl and each other file whole,
// prints what does not load, and last how many texts it has loaded.

const pythonReader = `
import json, math, sys
def no(what): raise ValueError(what)
def finite(text): return float(text) if math.isfinite(float(text)) else no(text)
def once(pairs): return dict(pairs) if len(dict(pairs)) == len(pairs) else no('a name is repeated')
loaded = 0
for path in sys.stdin.read().splitlines():
    whole = open(path, 'rb').read()
    for text in (whole.split(b'\n')[:-1] if path.endswith('.jsonl') else [whole]):
        try:
            value = json.loads(text.decode('utf-8'), parse_constant=no, parse_float=finite, object_pairs_hook=once)
            json.dumps(value, ensure_ascii=False).encode('utf-8') # a lone surrogate has no bytes
            loaded += 1
        except Exception as e: print(path, e, text[:200])
print(loaded)
`

const nodeReader = `
const fs = require('fs'), strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const check = (key, value) => {
  if (typeof value === 'number' && !isFinite(value)) throw new Error('infinite')
  if (!key.isWellFormed() || typeof value === 'string' && !value.isWellFormed()) throw new Error('a lone surrogate')
  return value
}
let loaded = 0
for (const path of fs.readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  const whole = strict.decode(fs.readFileSync(path))
  for (const text of path.endsWith('.jsonl') ? whole.split('\n').slice(0, -1) : [whole]) {
    try { JSON.parse(text, check); loaded++ } catch (e) { console.log(path, e.message, text.slice(0, 200)) }
  }
}
console.log(loaded)
`

// jq stops at the first text that it does not load.
const jqReader = `xargs -d '\n' cat | jq -n 'reduce inputs as $_ (0; . + 1)'`

var readers = map[string][]string{
	"python3": {"python3", "-c", pythonReader},
	"node":    {"node", "-e", nodeReader},
	"jq":      {"sh", "-c", jqReader},
}

// A hostile is a JSON value for details, and whether the stream accepts it.
type hostile struct {
	text     string
	accepted bool
}

func hostileDetails() []hostile {
	nested := func(depth int, open, inner, closing string) string {
		return strings.Repeat(open, depth) + inner + strings.Repeat(closing, depth)
	}
	list := []hostile{
		{"1e999", false}, {"-1e999", false}, {"[1e309]", false}, {"1e-999", true}, {"1.7976931348623157e308", true}, {"1.8e308", false},
		{strings.Repeat("9", 400), false}, {"-" + strings.Repeat("1", 400), false}, {strings.Repeat("9", 300), true},
		{"0." + strings.Repeat("3", 400), true}, {"18446744073709551616", true}, {"-9223372036854775809", true}, {"-0", true}, {"1E+2", true},
		{"NaN", true}, {"Infinity", true}, {"-Infinity", true}, {`{"a":[NaN]}`, true}, {"nan", false}, {"01", false}, {"+1", false}, {".5", false}, {"1.", false}, {"0x1", false},
		{`"\ud800"`, true}, {`"\udc00\ud800"`, true}, {`{"\ud800":"\udfff"}`, true}, {`{"\ud800":1,"\udbff":2}`, true}, {`"\ud83d\ude00"`, true},
		{"\"\xff\xfe\"", true}, {"\"\xed\xa0\x80\"", true}, {"\"\xc0\xaf\"", true}, {"\"\xf4\x90\x80\x80\"", true}, {"{\"\x80\":1,\"\x81\":2}", true},
		{`{"a":1,"a":2}`, true}, {`{"a":1,"\u0061":{"a":1,"a":2}}`, true}, {`{"":1,"":2}`, true}, {`{"__proto__":1,"constructor":2}`, true},
		{`"\u0000"`, true}, {`{"\u0000":"\u0000\u001f\u007f"}`, true}, {"\"\x00\"", false}, {"\"\x7f\"", true}, {"\"\t\"", false},
		{"\"\u2028\u2029\"", true}, {`"\u2028\u2029"`, true}, {"\"\ufeff\"", true}, {"\ufeff1", false}, {"1\ufeff", false}, {"\u00a01", false},
		{`"</script><!--"`, true}, {`"\/\b\f\n\r\t\"\\"`, true}, {`"\v"`, false}, {`"\u12"`, false}, {`'a'`, false}, {`[1,]`, false}, {`{"a":1,}`, false},
		{`{"a" 1}`, false}, {`{1:2}`, false}, {`[1 2]`, false}, {`tru`, false}, {`True`, false}, {`1 2`, false}, {`/**/1`, false}, {``, false},
		{`{"schema_version":2,"kind":"x","seq":0}`, true}, {`{"a":[{},[],"",0,null,true,false]}`, true},
	}
	for _, depth := range []int{1, 63, 64, 65, 127, 128, 10000} {
		list = append(list, hostile{nested(depth, "[", "", "]"), depth <= 64}, hostile{nested(depth, `{"a":`, "1", "}"), depth <= 64})
	}
	return list
}

// detailLines returns lines that give v as details, in every form of a directive, with
// the simplest quoting.
func detailLines(v string) []string {
	quoted := "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
	return []string{
		`{"state":"ready","details":` + v + `}`,
		`{"details":` + v + `,"kind":"ready"}`,
		`STATE=ready DETAILS=` + quoted,
	}
}

func TestDetails_hostile(t *testing.T) {
	for _, h := range hostileDetails() {
		for _, line := range detailLines(h.text) {
			g := newGuest(t)
			sum := g.feed(line + "\nSTATE=failed DETAILS.after=1\n")
			if accepted := sum.Rejected == 0; accepted != h.accepted {
				t.Errorf("%s: accepted: %v", clip(line), accepted)
			}
			if _, rejects := g.checkModel(); len(rejects) != int(sum.Rejected) || !strings.Contains(g.read("status.json"), `"after"`) {
				t.Errorf("%s: the lines around it are lost", clip(line))
			}
		}
	}
}

// randomHostile returns one of the hostile values, or an array or object of some.
func randomHostile(rnd *rand.Rand, all []hostile, depth int) string {
	if depth == 0 || rnd.IntN(3) == 0 {
		for {
			if h := all[rnd.IntN(len(all))]; h.accepted && len(h.text) < 100 || rnd.IntN(200) == 0 {
				return h.text
			}
		}
	}
	var parts []string
	named := rnd.IntN(2) == 0
	for range rnd.IntN(5) {
		part := randomHostile(rnd, all, depth-1)
		if named {
			part = hostileName(rnd) + ":" + part
		}
		parts = append(parts, part)
	}
	if named {
		return "{" + strings.Join(parts, " , ") + "}"
	}
	return "[ " + strings.Join(parts, ",") + "]"
}

func hostileName(rnd *rand.Rand) string {
	parts := []string{"a", "b", `\u0061`, `\ud800`, "\xff", "é", `\u0000`, "\u2028", "\ufeff", `\"`, "__proto__", ""}
	return `"` + parts[rnd.IntN(len(parts))] + parts[rnd.IntN(len(parts))] + `"`
}

// hostileLines returns lines, most of them accepted, with values in all their
// forms, and bytes of any kind as messages, as texts and as names of details.
func hostileLines(rnd *rand.Rand, count int) string {
	all := hostileDetails()
	var b strings.Builder
	for range count {
		forms := detailLines(randomHostile(rnd, all, 3))
		b.WriteString(forms[rnd.IntN(len(forms))] + "\n")
		fmt.Fprintf(&b, "KIND=ready MESSAGE=%s DETAILS.%s=%s DETAILS.b:='[%s]'\n", hexWord(rnd), bareName(rnd), hexWord(rnd),
			strings.ReplaceAll(randomHostile(rnd, all, 1), "'", "7"))
		fmt.Fprintf(&b, `{"kind":"ready","message":%s}`+"\n", hostileName(rnd))
	}
	return b.String()
}

// hexWord returns random bytes without NUL as a value of a KEY=value line.
func hexWord(rnd *rand.Rand) string {
	var b strings.Builder
	b.WriteString("$'")
	for range rnd.IntN(12) {
		fmt.Fprintf(&b, `\x%02x`, 1+rnd.IntN(255))
	}
	return b.String() + "'"
}

// bareName returns a name of random bytes that need no quotes.
func bareName(rnd *rand.Rand) string {
	name := []byte{'x'}
	for range rnd.IntN(6) {
		if c := byte(1 + rnd.IntN(255)); strings.IndexByte(" \t\r\n'\"\\=", c) < 0 {
			name = append(name, c)
		}
	}
	return string(name)
}

// Whatever the stream accepts loads in the strictest common readers.
func TestOutput_loads_in_other_readers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2026, 8259))
	var paths []string
	texts := 0
	for range 40 {
		g := newGuest(t)
		sum := g.feed(hostileLines(rnd, 50) + `{"state":"failed","details":` + randomHostile(rnd, hostileDetails(), 3) + "}\n")
		events, rejects := g.checkModel()
		if uint64(len(rejects)) != sum.Rejected || len(events)+len(rejects) != int(sum.Lines) || len(events) < 90 {
			t.Errorf("%d events, %d rejects, %+v", len(events), len(rejects), sum)
		}
		texts += len(events) + len(rejects)
		for _, name := range []string{"events.jsonl", "rejected.jsonl", "status.json", "result.json"} {
			if !g.isWritten(name) {
				continue
			}
			paths = append(paths, g.file(name))
			if strings.HasSuffix(name, ".json") {
				texts++
			}
		}
	}
	for name := range readers {
		t.Run(name, func(t *testing.T) { checkLoads(t, name, paths, texts) })
	}
	t.Run("Go", func(t *testing.T) { checkGoLoads(t, paths, texts) })
}

func checkLoads(t *testing.T, name string, paths []string, texts int) {
	out, err := readWith(t, name, strings.Join(paths, "\n")+"\n")
	if err != nil || strings.TrimSpace(out) != fmt.Sprint(texts) {
		t.Errorf("%v; of %d texts it loads\n%s", err, texts, clip(out))
	}
}

// readWith runs a reader on the paths given, a line each.
func readWith(t *testing.T, name, paths string) (string, error) {
	t.Helper()
	testenv.Tool(t, name)
	reader := exec.Command(readers[name][0], readers[name][1:]...)
	reader.Stdin = strings.NewReader(paths)
	out, err := reader.CombinedOutput()
	return string(out), err
}

func checkGoLoads(t *testing.T, paths []string, texts int) {
	loaded := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		testenv.Must(t, err)
		d := json.NewDecoder(bytes.NewReader(text)) // numbers as doubles
		for {
			var v any
			if err := d.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			loaded++
		}
	}
	if loaded != texts {
		t.Errorf("of %d texts Go loads %d", texts, loaded)
	}
}

// The readers of these tests reject invalid JSON: otherwise the tests would prove nothing.
func TestReaders_reject_invalid_JSON(t *testing.T) {
	for name, bad := range map[string][]string{
		"python3": {"\"\xff\"", "{", "1e999", "NaN", `"\ud800"`, `{"\ud800":1}`, `{"a":1,"a":2}`, "1 2", "\ufeff1"},
		"node":    {"{", "1e999", "NaN", `"\ud800"`, `{"\ud800":1}`, "1 2", "\ufeff1"},
		"jq":      {"{"},
	} {
		t.Run(name, func(t *testing.T) { checkRejects(t, name, bad) })
	}
}

// checkRejects checks that a reader loads valid JSON and none of the invalid
// texts.
func checkRejects(t *testing.T, name string, bad []string) {
	dir := testenv.TempDir(t)
	var paths strings.Builder
	for i, text := range append(bad, `{"a":[1]}`) {
		path := filepath.Join(dir, fmt.Sprint(i))
		testenv.Must(t, os.WriteFile(path, []byte(text), 0o644))
		paths.WriteString(path + "\n")
	}
	out, err := readWith(t, name, paths.String())
	lines := strings.Split(strings.TrimSpace(out), "\n")
	rejected := err == nil && lines[len(lines)-1] == "1" && len(lines) > len(bad)
	if name == "jq" { // which stops at the first
		rejected = err != nil
	}
	if !rejected {
		t.Errorf("%s loads some of %q: %v\n%s", name, bad, err, out)
	}
}

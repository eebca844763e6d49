package writer

import (
	"strings"
	"testing"
)

// The strict reader of these tests rejects each kind of invalid line.
func TestStrictJSON(t *testing.T) {
	valid := testLines(4, 5)
	if records, err := load(valid); err != nil || len(records) != 2 || records[1] != (record{"ready", "event 5", 5}) {
		t.Fatalf("%v, %v", records, err)
	}
	event := strings.TrimSuffix(testLine(6, "m"), "\n")
	with := func(old, new string) string {
		if !strings.Contains(event, old) {
			t.Fatalf("%s does not contain %s", event, old)
		}
		return strings.Replace(event, old, new, 1) + "\n"
	}
	for name, line := range map[string]string{
		"torn":               event,
		"empty line":         "\n",
		"mark":               "\ufeff" + event + "\n",
		"invalid UTF-8":      with(`"m"`, "\"\xff\""),
		"lone high":          with(`"m"`, `"\ud800"`),
		"high and no low":    with(`"m"`, `"\ud800\u0041"`),
		"lone low":           with(`"m"`, `"\udc00"`),
		"escaped, then lone": with(`"m"`, `"\\\ud800"`),
		"name twice":         with(`{`, `{"message":"m",`),
		"nested name twice":  with(`"seq"`, `"details":[{"a":1,"a":1}],"seq"`),
		"unknown name twice": with(`"seq"`, `"x":1,"x":1,"seq"`),
		"number too large":   with(`"seq"`, `"details":1e999,"seq"`),
		"too deep":           with(`"seq"`, `"details":`+strings.Repeat("[", 126)+strings.Repeat("]", 126)+`,"seq"`),
		"seq 6.0":            with(`:6`, `:6.0`),
		"seq text":           with(`:6`, `:"6"`),
		"seq -0":             with(`:6`, `:-0`),
		"no seq":             with(`,"seq":6`, ``),
		"seq again":          with(`:6`, `:5`),
		"gap":                with(`:6`, `:7`),
		"kind unknown":       with(`ready`, `running`),
		"version":            with(`:1`, `:2`),
		"message no string":  with(`"m"`, `1`),
		"boot_id no string":  with(`"seq"`, `"boot_id":1,"seq"`),
		"uptime no number":   with(`"seq"`, `"uptime_ms":-1,"seq"`),
		"time with comma":    with(`.123Z`, `,123Z`),
		"time without zone":  with(`.123Z`, ``),
		"two values":         event + event + "\n",
		"no object":          "[]\n",
		"garbage":            "x\n",
	} {
		if _, err := load(valid + line); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, line := range map[string]string{
		"pair":              with(`"m"`, `"\ud83d\ude00"`),
		"escaped backslash": with(`"m"`, `"\\ud800"`),
		"underflow":         with(`"seq"`, `"details":1e-999,"seq"`),
	} {
		if _, err := load(valid + line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package writer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// strictValue checks that text is one JSON value which the strictest reader
// takes: valid UTF-8, no name twice, no lone surrogate, numbers inside double
// range, nesting below 127.
func strictValue(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("invalid UTF-8")
	}
	if err := strictEscapes(text); err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := strictToken(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// strictToken checks the value that comes next.
func strictToken(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Number:
		_, err := strconv.ParseFloat(string(token), 64)
		return err
	case json.Delim:
		if depth >= 126 {
			return errors.New("nested too deep")
		}
		return strictMembers(d, token == '{', depth)
	}
	return nil
}

// strictMembers checks what an object or array holds.
func strictMembers(d *json.Decoder, object bool, depth int) error {
	seen := map[json.Token]bool{}
	for d.More() {
		if object {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("%q stands twice", name)
			}
			seen[name] = true
		}
		if err := strictToken(d, depth+1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// strictEscapes checks that surrogates come in pairs.
func strictEscapes(text string) error {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		high, ok := surrogate(text[i-1:], 0xd800)
		if ok {
			i += 6
			_, ok = surrogate(text[min(i-1, len(text)):], 0xdc00)
			if !ok {
				return fmt.Errorf("lone surrogate %x", high)
			}
			continue
		}
		if low, ok := surrogate(text[i-1:], 0xdc00); ok {
			return fmt.Errorf("lone surrogate %x", low)
		}
	}
	return nil
}

// surrogate reads \uXXXX as a surrogate of the half that starts at base.
func surrogate(text string, base uint64) (uint64, bool) {
	if len(text) < 6 || text[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:6], 16, 16)
	return n, err == nil && base <= n && n < base+0x400
}

// TestStrictReaderRefuses proves the model that the other tests lean on.
func TestStrictReaderRefuses(t *testing.T) {
	sound := testLines(4, 5)
	if records, err := load(sound); err != nil || len(records) != 2 || records[1] != (record{"ready", "event 5", 5}) {
		t.Fatalf("%v, %v", records, err)
	}
	event := strings.TrimSuffix(testLine(6, "m"), "\n")
	with := func(old, new string) string {
		if !strings.Contains(event, old) {
			t.Fatalf("%s has no %s", event, old)
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
		if _, err := load(sound + line); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	for name, line := range map[string]string{
		"pair":              with(`"m"`, `"\ud83d\ude00"`),
		"escaped backslash": with(`"m"`, `"\\ud800"`),
		"underflow":         with(`"seq"`, `"details":1e-999,"seq"`),
	} {
		if _, err := load(sound + line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

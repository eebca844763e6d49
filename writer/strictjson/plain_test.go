package strictjson

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlainObject checks which objects the fast path accepts; checkPlain checks what it does
// with them.
func TestPlainObject(t *testing.T) {
	members := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"%d":%d`, i, i))
		}
		return "{" + strings.Join(list, ",") + "}"
	}
	for _, c := range []struct {
		text  string
		plain bool
	}{
		{`{}`, true},
		{`{"step":"boot","elapsed_ms":1234.5,"host":"a1"}`, true},
		{`{"a":true,"b":false,"c":null,"d":-0.5e-9}`, true},
		{`{"a":{"b":[1,"x",[],{}]}}`, true},
		{members(maxPlain), true},
		{members(maxPlain + 1), false},
		{nestedObjects(MaxDepth), true},
		{nestedObjects(MaxDepth + 1), false},
		{nestedArrays(MaxDepth), true},
		{nestedArrays(MaxDepth + 1), false},
		{`{"a":` + strings.Repeat("[", MaxDepth) + "1" + strings.Repeat("]", MaxDepth) + "}", false},
		{`{"a":[1}}`, false},
		{`{"a":[1:2]}`, false},
		{`{"a":1,"a":2}`, false},
		{`{"a":1,"\u0061":2}`, false},
		{`{"a" :1}`, false},
		{`{"a":1 }`, false},
		{`{"a":1,}`, false},
		{`{"a":01}`, false},
		{`{"a":1e999}`, false},
		{`{"a":NaN}`, false},
		{`{"a":trueish}`, false},
		{`{"a":"\n"}`, false},
		{`{"a":"é"}`, false},
		{`{"a":"` + "\t" + `"}`, false},
		{`{"a":[1,]}`, false},
		{`{"a":[1`, false},
		{`{"a":"`, false},
		{`{"a":`, false},
		{`{"a"`, false},
		{`{`, false},
		{`[1]`, false},
		{`"a"`, false},
		{``, false},
	} {
		if checkPlain(t, []byte(c.text)) != c.plain {
			t.Errorf("%.80s: expected plain %v", c.text, c.plain)
		}
	}
}

// nestedArrays returns an object that contains arrays, depth levels in all.
func nestedArrays(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}"
}

func nestedObjects(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + "{}" + strings.Repeat("}", depth-1)
}

// TestNormalise_escapes_kept checks that text whose escapes are those of the normal form is
// not copied, because a line of 1 MiB may consist of them.
func TestNormalise_escapes_kept(t *testing.T) {
	text := []byte(`"a\n\"\\\u0001\u2028\u001fb"`)
	var n Normaliser
	var buf []byte
	value, _, err := n.Value(&buf, text, 0)
	if err != nil || string(value) != string(text) || &value[0] != &text[0] || buf != nil {
		t.Errorf("%s, %v; expected a part of the input", value, err)
	}
	for _, escape := range []string{`\/`, `\u000a`, `\u0041`, `\u001F`, `\ud83d\ude00`, `\ud800`} {
		text := []byte(`"` + escape + `"`)
		value, _, err := n.Value(&buf, text, 0)
		if err != nil || string(value) == string(text) {
			t.Errorf("%s became %s, %v; expected the normal form", text, value, err)
		}
	}
}

package strictjson

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A writer generates JSON texts, most of them valid, from parts that JSON readers
// treat differently.
type writer struct {
	*rand.Rand
	b strings.Builder
}

var (
	numberParts = []string{
		"0", "-0", "1", "-1", "12345678901234567890", "18446744073709551615", "18446744073709551616",
		"9007199254740993", "-9223372036854775809", "0.1", "1.50", "1e5", "1E-5", "-2.5e+10", "1e-999",
		"5e-324", "2e-324", "1e308", "1.7976931348623157e308", "1e309", "1.8e308", "1e999", "-0.0e0",
		"0e99999", "123456789012345678901234567890.123456789e-20", "01", "1.", ".5", "+1", "1e", "NaN",
		"-Infinity", "0.000000000000000000001", "1797693134862315700e290",
	}
	stringParts = []string{
		"a", "key", "é", "€", "😀", "\u2028", "\u2029", "\u0085", "\u007f", "\ufeff", `\"`, `\\`, `\/`, `\b\f\n\r\t`, `\u0000`,
		`\u001F`, `\u00e9`, `\u2028`, `\ud83d\ude00`, `\ud800`, `\udc00`, `\uDBFF`, `\uFFFF`, `\u0022`,
		"\xff", "\x80", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "<b>&", "   ",
		"0123456789abcdefghijklmnopqrstuvwxyz", "__proto__", "true", `\u0061`, "'", "//",
	}
	oddParts  = []string{`\x`, `\u12`, "\n", "\x00", "\x1f", `\`}
	spaces    = []string{"", "", "", " ", "\n", "\t\r\n  "}
	badSpaces = []string{"\v", "\u00a0", "\ufeff", "\x00", "//\n", ","}
)

func pick(w *writer, from []string) string { return from[w.IntN(len(from))] }

func (w *writer) space() {
	w.b.WriteString(pick(w, spaces))
	if w.IntN(400) == 0 {
		w.b.WriteString(pick(w, badSpaces))
	}
}

func (w *writer) str() {
	w.b.WriteByte('"')
	for range w.IntN(5) {
		w.b.WriteString(pick(w, stringParts))
		if w.IntN(400) == 0 {
			w.b.WriteString(pick(w, oddParts))
		}
	}
	w.b.WriteByte('"')
}

func (w *writer) number() {
	if w.IntN(3) > 0 {
		fmt.Fprintf(&w.b, "%v", w.NormFloat64()*1e9)
		return
	}
	part := pick(w, numberParts)
	if strings.ContainsAny(part, "NI+.9") && w.IntN(8) > 0 { // one invalid number would make the whole text invalid
		part = "7"
	}
	w.b.WriteString(part)
}

func (w *writer) value(depth int) {
	w.space()
	switch kind := w.IntN(10); {
	case kind < 2 && depth > 0:
		w.list('[', ']', func() { w.value(depth - 1) })
	case kind < 5 && depth > 0:
		w.list('{', '}', func() {
			w.space()
			w.str()
			w.space()
			w.b.WriteByte(':')
			w.value(depth - 1)
		})
	case kind < 7:
		w.str()
	case kind < 9:
		w.number()
	default:
		w.b.WriteString([]string{"true", "false", "null"}[w.IntN(3)])
	}
	w.space()
}

func (w *writer) list(opening, closing byte, element func()) {
	w.b.WriteByte(opening)
	count := w.IntN(5)
	if w.IntN(30) == 0 {
		count += 20 // more than fewMembers
	}
	for i := range count {
		if i > 0 {
			w.b.WriteByte(',')
		}
		element()
	}
	w.b.WriteByte(closing)
}

// corpus returns the texts of the tables accepted and rejected, and count
// generated texts, the same ones in every run. In every fourth generated text, one
// byte is changed, removed or doubled.
func corpus(count int) (texts []string) {
	for _, c := range accepted {
		texts = append(texts, c.text)
	}
	for _, c := range rejected {
		texts = append(texts, c.text)
	}
	for depth := 1; depth <= 70; depth++ {
		texts = append(texts, nested(depth), strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth))
	}
	w := &writer{Rand: rand.New(rand.NewPCG(7, 8259))}
	for i := range count {
		w.b.Reset()
		w.value(1 + w.IntN(5))
		text := w.b.String()
		if i%4 == 0 {
			text = w.corrupt(text)
		}
		texts = append(texts, text)
	}
	return texts
}

func (w *writer) corrupt(text string) string {
	at := w.IntN(len(text))
	switch before, after := text[:at], text[at+1:]; w.IntN(3) {
	case 0:
		return before + after
	case 1:
		return before + text[at:at+1] + text[at:]
	default:
		return before + string([]byte{byte(w.IntN(256))}) + after
	}
}

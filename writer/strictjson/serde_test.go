package strictjson

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// A serdeModel reads a text as serde_json with its default features reads a Value.
// It has the same limits on nesting, strings and numbers, and the same arithmetic.
// It panics with a string where serde_json returns an error.
type serdeModel struct {
	text []byte
	at   int
	left int // how many more levels the text may nest
}

// serdeRejects returns the reason why serde_json rejects the text; "" if it
// accepts it.
func serdeRejects(text []byte) (why string) {
	defer func() {
		if r := recover(); r != nil {
			why = fmt.Sprint(r)
		}
	}()
	m := &serdeModel{text: text, left: 128}
	m.value()
	if m.space(); m.at < len(text) {
		return "trailing characters"
	}
	return ""
}

func (m *serdeModel) peek() byte {
	if m.at < len(m.text) {
		return m.text[m.at]
	}
	return 0
}

func (m *serdeModel) next() byte {
	if m.at == len(m.text) {
		panic("end of text")
	}
	m.at++
	return m.text[m.at-1]
}

func (m *serdeModel) space() {
	for c := m.peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = m.peek() {
		m.at++
	}
}

func (m *serdeModel) value() {
	m.space()
	switch c := m.next(); {
	case c == '[':
		m.list(']', m.value)
	case c == '{':
		m.list('}', m.member)
	case c == '"':
		m.str()
	case c == '-':
		m.integer(m.next())
	case '0' <= c && c <= '9':
		m.integer(c)
	default:
		m.at--
		m.word()
	}
}

func (m *serdeModel) word() {
	for _, word := range []string{"null", "true", "false"} {
		if string(m.text[m.at:min(m.at+len(word), len(m.text))]) == word {
			m.at += len(word)
			return
		}
	}
	panic("expected a value")
}

func (m *serdeModel) list(closing byte, element func()) {
	if m.left--; m.left == 0 {
		panic("recursion limit exceeded")
	}
	defer func() { m.left++ }()
	if m.space(); m.peek() == closing {
		m.at++
		return
	}
	for {
		element()
		m.space()
		switch m.next() {
		case closing:
			return
		case ',':
		default:
			panic("expected a comma or the end")
		}
	}
}

func (m *serdeModel) member() {
	if m.space(); m.next() != '"' {
		panic("a key must be a string")
	}
	m.str()
	if m.space(); m.next() != ':' {
		panic("expected a colon")
	}
	m.value()
}

func (m *serdeModel) str() {
	start := m.at
	for {
		switch c := m.next(); {
		case c == '"':
			if !utf8.Valid(m.text[start:m.at]) {
				panic("invalid unicode code point")
			}
			return
		case c == '\\':
			m.escape()
		case c < ' ':
			panic("control character while parsing a string")
		}
	}
}

func (m *serdeModel) escape() {
	switch m.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
	case 'u':
		high := m.unit()
		if !utf16.IsSurrogate(high) {
			return
		}
		if high >= 0xDC00 || m.next() != '\\' || m.next() != 'u' || utf16.DecodeRune(high, m.unit()) == utf8.RuneError {
			panic("lone surrogate in hex escape")
		}
	default:
		panic("invalid escape")
	}
}

func (m *serdeModel) unit() rune {
	if m.at+4 > len(m.text) {
		panic("end of text")
	}
	unit, err := strconv.ParseUint(string(m.text[m.at:m.at+4]), 16, 16)
	if err != nil {
		panic("invalid escape")
	}
	m.at += 4
	return rune(unit)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// grow returns significand*10+digit, and false if that needs more than 64 bits.
func grow(significand uint64, digit byte) (uint64, bool) {
	d := uint64(digit - '0')
	if significand > (math.MaxUint64-d)/10 {
		return significand, false
	}
	return significand*10 + d, true
}

func (m *serdeModel) integer(first byte) {
	if !isDigit(first) {
		panic("invalid number")
	}
	if first == '0' && isDigit(m.peek()) {
		panic("invalid number")
	}
	significand, dropped, fits := uint64(first-'0'), 0, true
	for isDigit(m.peek()) {
		c := m.next()
		if fits {
			significand, fits = grow(significand, c)
		}
		if !fits {
			dropped++
		}
	}
	switch m.peek() {
	case '.':
		m.at++
		m.decimal(significand, dropped)
	case 'e', 'E':
		m.exponent(significand, dropped)
	default:
		if !fits {
			m.scale(significand, dropped)
		}
	}
}

func (m *serdeModel) decimal(significand uint64, power int) {
	if !isDigit(m.peek()) {
		panic("invalid number")
	}
	for fits := true; isDigit(m.peek()); {
		c := m.next()
		if fits {
			significand, fits = grow(significand, c)
		}
		if fits {
			power--
		}
	}
	if c := m.peek(); c == 'e' || c == 'E' {
		m.exponent(significand, power)
		return
	}
	m.scale(significand, power)
}

func (m *serdeModel) exponent(significand uint64, power int) {
	m.at++
	negative := m.peek() == '-'
	if negative || m.peek() == '+' {
		m.at++
	}
	if !isDigit(m.peek()) {
		panic("invalid number")
	}
	given, over := 0, false
	for isDigit(m.peek()) {
		if given = given*10 + int(m.next()-'0'); given > math.MaxInt32 {
			given, over = math.MaxInt32, true
		}
	}
	switch {
	case over && significand != 0 && !negative:
		panic("number out of range")
	case over:
	case negative:
		m.scale(significand, power-given)
	default:
		m.scale(significand, power+given)
	}
}

// scale is the step that may overflow. It multiplies a double by a power of ten
// from a table with correct rounding, which math.Pow10 does not have.
func (m *serdeModel) scale(significand uint64, power int) {
	f := float64(significand)
	for power < -308 && f != 0 {
		f /= 1e308
		power += 308
	}
	if f == 0 || power < 0 {
		return
	}
	if power > 308 {
		panic("number out of range")
	}
	ten, err := strconv.ParseFloat("1e"+strconv.Itoa(power), 64)
	if err != nil {
		panic(err.Error())
	}
	if math.IsInf(f*ten, 0) {
		panic("number out of range")
	}
}

// The model accepts and rejects the same texts as serde_json.
func TestSerdeModel(t *testing.T) {
	for _, text := range []string{
		`1.7976931348623157e308`, `0e9999999999`, `1e-9999999999`, `18446744073709551616`,
		`-0`, `"\ud83d\ude00"`, `"\u0000"`, ` {"a":1,"a":[]} `, nested(127),
	} {
		if why := serdeRejects([]byte(text)); why != "" {
			t.Errorf("%.60s: rejected: %s", text, why)
		}
	}
	for _, text := range []string{
		``, `1 2`, `1e309`, `1.8e308`, `1.797693134862315700e308`, `1e9999999999`, nested(128),
		`"\ud800"`, `"\udc00"`, `"\ud800\u0041"`, "\"\xff\"", "\"\x1f\"", "\"\n\"", `01`, `1.`, `.1`,
		`+1`, `nul`, `[1,]`, `{"a":1,}`, `{"a"}`, `"\x"`, `"\u00g0"`, `"`, "\ufeff1", `[1`, `{1:1}`,
	} {
		if serdeRejects([]byte(text)) == "" {
			t.Errorf("%.60s: accepted", text)
		}
	}
}

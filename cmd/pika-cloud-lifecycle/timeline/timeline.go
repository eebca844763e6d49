// Package timeline shows what happened to a guest to a person: as text for a
// terminal, and as a picture, one SVG.
//
// What it shows comes from input that may be hostile. All of it is made visible, so
// that no terminal and no browser obeys it, and measured in columns, so that wide
// and combining characters do not bend a table.
package timeline

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// Printable returns text with everything escaped that a terminal obeys or that
// changes how the rest reads: control characters and those of C1, the
// bidirectional overrides, what is no character, bytes that are not UTF-8, and
// characters longer than maxRun: any number of marks fits one column.
func Printable(text string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	run, state := 0, -1
	for rest := text; rest != ""; {
		var cluster string
		var width int
		cluster, rest, width, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if width > 0 {
			run = 0
		}
		run += len(cluster)
		long := run > maxRun
		if long {
			run = 0
		}
		for i, r := range cluster {
			switch {
			case r == utf8.RuneError && !strings.HasPrefix(cluster[i:], "\ufffd"):
				fmt.Fprintf(&b, `\x%02x`, cluster[i])
			case r > 0xffff && long:
				fmt.Fprintf(&b, `\U%08x`, r)
			case r < 0x20 || (0x7f <= r && (r < 0xa0 || long)) ||
				(0x2028 <= r && r <= 0x202e) || (0x2066 <= r && r <= 0x2069) || r == 0xfffe || r == 0xffff:
				fmt.Fprintf(&b, `\u%04x`, r)
			default:
				b.WriteRune(r)
			}
		}
	}
	return b.String()
}

// maxRun is how many bytes a character may have, with what takes no column after it. A
// base and the 30 marks that Unicode allows in its Stream-Safe Text Format (UAX #15)
// have no more.
const maxRun = 128

// isPlain reports whether text is ASCII that takes a column a byte.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// Columns returns how many columns of a terminal printable text takes.
func Columns(text string) int {
	if isPlain(text) {
		return len(text)
	}
	return uniseg.StringWidth(text)
}

// cut returns as much of printable text as fits columns, with a mark at its end if
// that is not all.
func cut(text string, columns int) string {
	if Columns(text) <= columns {
		return text
	}
	head, _ := split(text, max(columns-1, 0))
	return head + "…"
}

// split returns the characters that fit columns, and the others.
func split(text string, columns int) (head, rest string) {
	state := -1
	for rest = text; rest != ""; {
		_, after, width, next := uniseg.FirstGraphemeClusterInString(rest, state)
		columns -= width
		if columns < 0 {
			break
		}
		rest, state = after, next
	}
	return text[:len(text)-len(rest)], rest
}

// wrap cuts printable text into lines of so many columns, at spaces where there
// are any.
func wrap(text string, columns int) (lines []string) {
	for {
		head, rest := split(text, columns)
		if head == "" || rest == "" {
			return append(lines, text) // the last, or not even one character fits
		}
		if space := strings.LastIndexByte(head, ' '); space > 0 && rest[0] != ' ' {
			head, rest = text[:space], text[space:]
		}
		lines, text = append(lines, head), strings.TrimLeft(rest, " ")
	}
}

// pad adds spaces up to so many columns; to the right if columns is negative.
func pad(text string, columns int) string {
	left := columns < 0
	if left {
		columns = -columns
	}
	space := strings.Repeat(" ", max(0, columns-Columns(text)))
	if left {
		return space + text
	}
	return text + space
}

// Fold returns details on one line: the members of an object as name=value, and
// anything else as it is.
func Fold(details strictjson.Value) string {
	if len(details) == 0 || details[0] != '{' {
		return Printable(string(details))
	}
	var b strings.Builder
	strictjson.Members(details, func(name, value strictjson.Value, _ int) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(bare(name))
		b.WriteByte('=')
		b.WriteString(bare(value))
	})
	return Printable(b.String())
}

// bare returns a string without its quotes where it can be read without them.
func bare(value strictjson.Value) string {
	text, ok := value.Text()
	if !ok || text == "" || strings.ContainsAny(text, " \"=\\{}[],") {
		return string(value)
	}
	return text
}

// message returns the text of a message.
func message(value strictjson.Value) string {
	text, _ := value.Text()
	return Printable(text)
}

// Window returns so many columns of printable text, with what stands at the offset
// at among them, and the column of that. Marks stand for what is left out.
func Window(text string, at, columns int) (window string, column int) {
	before, after := text[:at], text[at:]
	if most := columns * 2 / 3; Columns(before) > most {
		_, before = split(before, Columns(before)-most+1)
		before = "…" + before
	}
	column = Columns(before)
	return before + cut(after, columns-column), column
}

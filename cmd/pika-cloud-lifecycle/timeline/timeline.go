// Package timeline draws the events of a guest for a person: as text for a terminal,
// and as one SVG.
//
// The events come from input that may be hostile. Characters that control a terminal
// or a browser are escaped. Text is measured in columns, so wide and combining
// characters do not shift a table.
package timeline

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// Printable returns text with every character escaped that controls a terminal or
// changes how other text is displayed: control characters (C0 and C1), line separators,
// bidirectional overrides, noncharacters, and bytes that are not UTF-8. It also escapes
// characters longer than maxRun, because any number of marks fits one column.
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

// maxRun is how many bytes a character may have, including the marks after it that take
// no column. It is enough for a base character and the 30 marks that Unicode allows in
// its Stream-Safe Text Format (UAX #15).
const maxRun = 128

// isPlain reports whether text is printable ASCII, with a column for each byte.
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

// cut returns printable text, shortened to a number of columns. A shortened text ends with
// "…".
func cut(text string, columns int) string {
	if Columns(text) <= columns {
		return text
	}
	head, _ := split(text, max(columns-1, 0))
	return head + "…"
}

// split returns the characters at the start of text that fit in columns, and the rest.
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

// wrap cuts printable text into lines that fit in columns, at spaces if there are any.
func wrap(text string, columns int) (lines []string) {
	for {
		head, rest := wrapLine(text, columns)
		lines = append(lines, head)
		if rest == "" {
			return lines
		}
		text = rest
	}
}

// wrapHanging is wrap with all lines but the first indented.
func wrapHanging(text string, columns, indent int) []string {
	head, rest := wrapLine(text, columns)
	lines := []string{head}
	if rest == "" {
		return lines
	}
	for _, line := range wrap(rest, max(columns-indent, 8)) {
		lines = append(lines, strings.Repeat(" ", indent)+line)
	}
	return lines
}

// wrapLine returns the first line of printable text and the rest.
func wrapLine(text string, columns int) (head, rest string) {
	head, rest = split(text, columns)
	if head == "" || rest == "" {
		return text, "" // the last line, or not even one character fits
	}
	if space := strings.LastIndexByte(head, ' '); space > 0 && rest[0] != ' ' {
		head, rest = text[:space], text[space:]
	}
	return head, strings.TrimLeft(rest, " ")
}

// pad pads a text with spaces to a width of columns. If columns is negative, the text is
// at the right.
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

// bare returns a string without its quotes, unless it is ambiguous without them.
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

// Window returns a part of printable text around the offset at, which is as wide as
// columns, and the column of the offset in that part. A "…" replaces text that is left
// out.
func Window(text string, at, columns int) (window string, column int) {
	before, after := text[:at], text[at:]
	if most := columns * 2 / 3; Columns(before) > most {
		_, before = split(before, Columns(before)-most+1)
		before = "…" + before
	}
	column = Columns(before)
	return before + cut(after, columns-column), column
}

package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// fifoName is the FIFO of the systemd units, in the state directory.
const fifoName = "lifecycle.fifo"

// socketUnit is the systemd unit that creates it.
const socketUnit = "pika-cloud-lifecycle.socket"

// sendMain writes one directive to the stream of run or ingest.
func sendMain(a *app, args []string) error {
	f := a.newFlags("send", sendUsage)
	dir := a.stateDir(f)
	to := f.String("to", "", "")
	timeout := f.Duration("timeout", 5*time.Second, "")
	pairs, err := f.parseOperands(args)
	if err != nil {
		return err
	}
	line, err := f.encodeLine(pairs)
	if err != nil {
		return err
	}
	var c channel
	switch {
	case f.isGiven("to") && f.isGiven("state-dir"):
		return f.badUsage("--to and --state-dir are both given; give one of them")
	case f.isGiven("to") && *to == "":
		return f.badUsage("--to is empty; expected the path of a FIFO")
	case f.isGiven("to"):
		c, err = openNamed(*to)
	case !f.isGiven("state-dir") && (a.getenv(streamVar) != "" || a.getenv(fifoVar) != ""):
		c, err = a.openGiven()
	default:
		if err := f.checkStateDir(*dir); err != nil {
			return err
		}
		c, err = a.openUnit(filepath.Join(*dir, fifoName))
	}
	if err != nil {
		return err
	}
	return c.write(line, *timeout)
}

// encodeLine returns the line that has the pairs of the command line, which it checks with
// the decoder of the stream.
func (f *flagSet) encodeLine(pairs []string) ([]byte, error) {
	if len(pairs) == 0 {
		return nil, f.badUsage("expected a directive, as in send STATE=ready MESSAGE=\"$message\"")
	}
	var line []byte
	var starts []int // of the pairs, in the line
	longest := 0
	for i, arg := range pairs {
		if err := f.checkPair(pairs, i); err != nil {
			return nil, err
		}
		if i > 0 {
			line = append(line, ' ')
		}
		starts = append(starts, len(line))
		name, value, _ := strings.Cut(arg, "=")
		line = append(line, name...)
		line = append(line, '=')
		line = appendQuoted(line, value)
		if len(arg) > len(pairs[longest]) {
			longest = i
		}
	}
	var decoder directive.Decoder
	_, rejected := decoder.Decode(line, false)
	if rejected != nil {
		i := len(starts) - 1
		for starts[i] > rejected.Offset {
			i--
		}
		if starts[i] == rejected.Offset { // the reason quotes the name, or is about the whole directive
			return nil, f.badUsage("%s", rejected.Reason)
		}
		hint := ""
		if hasSecondPair(pairs[i]) {
			hint = "; write each pair as one argument, as in send STATE=ready MESSAGE=\"$message\""
		}
		return nil, f.badUsage("%s: %s%s", shorten(pairs[i]), rejected.Reason, hint)
	}
	line = append(line, '\n')
	if len(line) > pipeBuf {
		return nil, f.badUsage("the directive has %d bytes, with its newline, but a FIFO keeps only %d together (PIPE_BUF); shorten %s", len(line), pipeBuf, shorten(pairs[longest]))
	}
	return line, nil
}

// checkPair checks that the argument with the index i can be a pair of a KEY=value line, on
// which its name is not quoted.
func (f *flagSet) checkPair(pairs []string, i int) error {
	arg := shorten(pairs[i])
	name, _, found := strings.Cut(pairs[i], "=")
	switch {
	case !found || strings.Trim(name, ":") == "":
		return f.badUsage("%s is not KEY=value; %s", arg, pairHint(pairs, i))
	case !startsWithLetter(name): // the line could be JSON or a comment
		return f.badUsage("%s: a key begins with a letter; write a directive such as STATE=ready", arg)
	case strings.ContainsAny(name, " \t\r\n'\"\\"):
		return f.badUsage("%s: a key has no spaces, line breaks, quotes or backslashes; for such a name in the details, write DETAILS:=JSON", arg)
	}
	return nil
}

// hasSecondPair reports whether an argument looks like a whole line, as in
// "STATE=ready MESSAGE=x". The value of DETAILS may have spaces.
func hasSecondPair(arg string) bool {
	_, rest, found := strings.Cut(arg, " ")
	return found && strings.Contains(rest, "=") && !strings.HasPrefix(strings.ToUpper(arg), "DETAILS")
}

func startsWithLetter(name string) bool {
	c := name[0] | 0x20 // in lower case
	return 'a' <= c && c <= 'z'
}

// appendQuoted appends a value as a word of a KEY=value line. It quotes everything that is
// not plain, so that the line has no other newline, and a value that is a directive is not
// mistaken for one.
func appendQuoted(line []byte, value string) []byte {
	switch {
	case isPlainValue(value):
		return append(line, value...)
	case !strings.ContainsAny(value, "'\n"):
		line = append(line, '\'')
		line = append(line, value...)
		return append(line, '\'')
	}
	line = append(line, "$'"...)
	for _, c := range []byte(value) {
		switch c {
		case '\n':
			line = append(line, `\n`...)
		case '\'', '\\':
			line = append(line, '\\', c)
		default:
			line = append(line, c)
		}
	}
	return append(line, '\'')
}

func isPlainValue(value string) bool {
	return strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/@%+,") == ""
}

// pairHint returns what to do about the argument with the index i, which is not KEY=value.
func pairHint(pairs []string, i int) string {
	word := strings.ToLower(pairs[i])
	_, isState := artifact.ParseState([]byte(word))
	before := ""
	if i > 0 {
		before = pairs[i-1]
	}
	switch {
	case strings.HasPrefix(pairs[i], "="), strings.HasPrefix(pairs[i], ":"), i+1 < len(pairs) && strings.HasPrefix(pairs[i+1], "="):
		return "write KEY=value without spaces"
	case before != "" && strings.Index(before, "=") == len(before)-1:
		return "write " + before + pairs[i] + " without spaces"
	case isState:
		return "write STATE=" + word
	case slices.Contains(directiveKeys(), word) && i+1 < len(pairs) && !strings.Contains(pairs[i+1], "="):
		return "write " + pairs[i] + "=" + pairs[i+1]
	case slices.Contains(directiveKeys(), word):
		return "write " + pairs[i] + "=value"
	case before != "":
		return "quote a value that has spaces, as in MESSAGE=\"two words\""
	case word != "" && word[0] == '{':
		return "write each key as one argument, as in STATE=ready"
	}
	return "write a directive such as STATE=ready"
}

// shorten quotes an argument for a message, and cuts it if it is long.
func shorten(arg string) string {
	const most = 40
	if len(arg) <= most {
		return strconv.QuoteToASCII(arg)
	}
	return strconv.QuoteToASCII(arg[:most]) + "…"
}

package ingest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// packets returns a descriptor from which each read returns one of the chunks, and
// after the last one the end of input. The caller closes it.
func packets(t testing.TB, chunks []string) int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	testenv.Must(t, err)
	go func() {
		defer unix.Close(pair[1])
		for _, c := range chunks {
			if c != "" { // an empty packet would be the end
				unix.Write(pair[1], []byte(c))
			}
		}
	}()
	return pair[0]
}

// splitLines feeds chunks and describes each line in one text.
func splitLines(t *testing.T, max int, chunks ...string) string {
	t.Helper()
	l := lines{fd: packets(t, chunks), max: max}
	defer unix.Close(l.fd)
	var b strings.Builder
	describe := func(ln line) {
		fmt.Fprintf(&b, "%d@%d+%d %s", ln.number, ln.offset, ln.length, ln.text)
		if ln.long {
			b.WriteString(" long")
		}
		if ln.cut {
			b.WriteString(" cut")
		}
		b.WriteString("|")
	}
	for {
		n, err := l.read()
		testenv.Must(t, err)
		var ln line
		for l.next(&ln) {
			describe(ln)
		}
		if n == 0 {
			if l.rest(&ln) {
				describe(ln)
			}
			return b.String()
		}
	}
}

func TestLines_any_chunks(t *testing.T) {
	for _, c := range []struct{ input, want string }{
		{"", ""},
		{"\n", "1@0+0 |"},
		{"\r\n", "1@0+0 |"},
		{"\r\r\n", "1@0+1 \r|"},
		{"\r", "1@0+1 \r cut|"},
		{"a\nb", "1@0+1 a|2@2+1 b cut|"},
		{"a\r\nb\r", "1@0+1 a|2@3+2 b\r cut|"},
		{"a\rb\n", "1@0+3 a\rb|"},
		{"1234567\n", "1@0+7 1234567|"},
		{"12345678\nx\n", "1@0+8 12345678|2@9+1 x|"},
		{"12345678\r\nx\n", "1@0+8 12345678|2@10+1 x|"},
		{"12345678\r", "1@0+9 12345678 long cut|"},
		{"12345678\rx\n", "1@0+10 12345678 long|"},
		{"123456789\nx\n", "1@0+9 12345678 long|2@10+1 x|"},
		{"123456789\r\nx\n", "1@0+9 12345678 long|2@11+1 x|"},
		{"12345678\r\r\nx\n", "1@0+9 12345678 long|2@11+1 x|"},
		{"123456789abcdefghijklmnopqrstuvwxyz\r\nx\ny\n", "1@0+35 12345678 long|2@37+1 x|3@39+1 y|"},
		{"x\n123456789abcdefghijklmnopqrstuvwxyz", "1@0+1 x|2@2+35 12345678 long cut|"},
		{"123456789ab\n\n123456789abcd\n#\n", "1@0+11 12345678 long|2@12+0 |3@13+13 12345678 long|4@27+1 #|"},
	} {
		check(t, fmt.Sprintf("%q, whole,", c.input), splitLines(t, 8, c.input), c.want)
		check(t, fmt.Sprintf("%q, byte by byte,", c.input), splitLines(t, 8, strings.Split(c.input, "")...), c.want)
		for at := range len(c.input) {
			check(t, fmt.Sprintf("%q, split at %d,", c.input, at), splitLines(t, 8, c.input[:at], c.input[at:]), c.want)
		}
	}
}

func TestLines_long(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 2*artifact.MaxRaw/16)
	want := fmt.Sprintf("1@0+%d %s long|2@%d+1 x|", len(text), text[:artifact.MaxRaw], len(text)+1)
	input := text + "\nx\n"
	for _, size := range []int{len(input), 1000, artifact.MaxRaw, 7000} {
		var chunks []string
		for rest := input; rest != ""; rest = rest[min(size, len(rest)):] {
			chunks = append(chunks, rest[:min(size, len(rest))])
		}
		check(t, fmt.Sprintf("in chunks of %d", size), splitLines(t, 6000, chunks...), want)
	}
}

// Lines of about the maximum length, at several positions in the buffer.
func TestLines_at_limit(t *testing.T) {
	const start = `STATE=ready MESSAGE=`
	for _, before := range []int{0, 1, readSize/2 + 7, readSize - 1} {
		for extra := -1; extra <= 2; extra++ {
			g := newGuest(t)
			line := start + strings.Repeat("x", DefaultMaxLine-len(start)+extra)
			sum := g.feed("#" + strings.Repeat("-", before) + "\n" + line + "\nSTATE=failed\n")
			if want := extra > 0; (sum.Rejected > 0) != want || sum.Lines != 3 {
				t.Errorf("a line of %d bytes after %d: rejected %d of %d lines", len(line), before, sum.Rejected, sum.Lines)
			}
			if !strings.Contains(g.read("status.json"), `"state": "failed"`) {
				t.Error("the next line is not accepted")
			}
		}
	}
}

// Lines that end at, before and after the end of a read.
func TestLines_across_reads(t *testing.T) {
	for _, size := range []int{readSize - 1, readSize, readSize + 1, 2*readSize - 1, 2 * readSize, 2*readSize + 1} {
		first := "KIND=ready MESSAGE=" + strings.Repeat("x", size%DefaultMaxLine/2)
		pad := "#" + strings.Repeat("-", size-len(first)-4)
		if len(pad) > DefaultMaxLine {
			pad = strings.Repeat("#\n", len(pad)/2) + "##"[:len(pad)%2]
		}
		g := newGuest(t)
		sum := g.feed(first + "\n" + pad + "\n\nKIND=failed\nKIND=oops\n")
		wantOffset := fmt.Sprintf(`"offset":%d,`, len(first)+1+len(pad)+1+1+len("KIND=failed\n"))
		if sum.Rejected != 1 || strings.Count(g.read("events.jsonl"), "\n") != 2 {
			t.Errorf("%d bytes: %+v", size, sum)
		}
		if reject := g.read("rejected.jsonl"); !strings.Contains(reject, wantOffset) {
			t.Errorf("%d bytes: %s; expected %s", size, reject, wantOffset)
		}
	}
}

// Fed byte by byte, the splitter scans each byte once and moves it once at
// most.
func TestLines_linear_time(t *testing.T) {
	const size = 8 << 10
	text := "x\n" + strings.Repeat("y", size)
	l := lines{fd: packets(t, strings.Split(text, "")), max: size}
	defer unix.Close(l.fd)
	scanned, moved := 0, 0
	for n := 1; n > 0; {
		if l.start > 0 {
			moved += l.end - l.start
		}
		var err error
		n, err = l.read()
		testenv.Must(t, err)
		for ok := true; ok; {
			from := l.scanned
			ok = l.next(new(line))
			scanned += l.scanned - from
		}
	}
	if l.end-l.start != size || scanned != len(text) || moved > 1 {
		t.Errorf("of %d bytes %d were scanned and %d moved; %d are left", len(text), scanned, moved, l.end-l.start)
	}
}

func TestLines_memory(t *testing.T) {
	const size = 100 << 20
	g := newGuest(t)
	w := g.open()
	chunk := strings.Repeat("x", 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range size / len(chunk) {
		w.print(chunk)
	}
	w.print("\nSTATE=ready\n")
	sum := w.close()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("a line of %d bytes used %d bytes of memory", size, used)
	}
	if sum.Lines != 2 || sum.Rejected != 1 || !strings.Contains(g.read("status.json"), `"state": "ready"`) {
		t.Errorf("%+v\n%s", sum, g.read("status.json"))
	}
	check(t, "the warnings", g.warnings(), "line 1, column 1048577: the line has 104857600 bytes; expected at most 1048576 (--max-line)")
	if reject := g.read("rejected.jsonl"); !strings.Contains(reject, `"raw":"`+chunk[:artifact.MaxRaw]+`","length":104857600,"truncated":true}`) {
		t.Error(clip(reject))
	}
}

func TestLines_one_byte_limit(t *testing.T) {
	g := newGuest(t)
	g.MaxLine = 1
	sum := g.feed("#\n\n##\nx\n")
	if sum.Lines != 4 || sum.Rejected != 2 {
		t.Errorf("%+v", sum)
	}
}

func TestLines_byte_order_mark(t *testing.T) {
	g := newGuest(t)
	g.feed("\xef\xbb\xbfSTATE=redy\n\xef\xbb\xbf{}\n")
	if warnings := g.warnings(); !strings.HasPrefix(warnings, "line 1, column 10: state is") || !strings.Contains(warnings, "line 2, column 1: a byte order mark") {
		t.Error(warnings)
	}
	for _, text := range []string{"\xef\xbb\xbf", "\xef\xbb\xbf\n", "\xef\xbb\xbf#\n"} {
		if sum := newGuest(t).feed(text); sum.Rejected != 0 || sum.Lines != 1 {
			t.Errorf("%q: %+v", text, sum)
		}
	}
	g = newGuest(t)
	g.feed("\xef\xbb\xbf{\"state\":\"ready\"}\n")
	if !strings.Contains(g.read("status.json"), `"state": "ready"`) {
		t.Error(g.warnings())
	}
}

func TestLines_byte_order_mark_split(t *testing.T) {
	g := newGuest(t)
	sum := g.feedChunks("\xef", "\xbb", "\xbf", "STATE=ready\n")
	if sum.Rejected != 0 {
		t.Error(g.warnings())
	}
}

package history_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

func TestLines(t *testing.T) {
	const text = "one\n\n  three\r\nfour"
	want := []history.Line{{Text: []byte("one"), Number: 1}, {Number: 2, Offset: 4}, {Text: []byte("  three\r"), Number: 3, Offset: 5}}
	for name, from := range map[string]io.Reader{"whole": strings.NewReader(text), "by byte": iotest.OneByteReader(strings.NewReader(text)),
		"with EOF": iotest.DataErrReader(strings.NewReader(text))} {
		lines := history.Lines{From: from}
		for _, w := range want {
			ln, err := lines.Next()
			if err != nil || !bytes.Equal(ln.Text, w.Text) || ln.Number != w.Number || ln.Offset != w.Offset || ln.Torn || ln.Long {
				t.Errorf("%s: %q %+v, %v", name, ln.Text, ln, err)
			}
		}
		if ln, err := lines.Next(); err != io.EOF {
			t.Errorf("%s: %+v, %v", name, ln, err)
		}
		if ln, ok := lines.Rest(); !ok || string(ln.Text) != "four" || ln.Number != 4 || ln.Offset != 14 || !ln.Torn {
			t.Errorf("%s: %+v, %v", name, ln, ok)
		}
	}
}

func TestLines_file_grows(t *testing.T) {
	var file bytes.Buffer
	lines := history.Lines{From: &file}
	file.WriteString("one\ntw")
	if ln, err := lines.Next(); string(ln.Text) != "one" || err != nil {
		t.Fatal(ln, err)
	}
	if _, err := lines.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if at := lines.Drop(); at != 4 {
		t.Errorf("Drop returned %d; want 4", at)
	}
	file.WriteString("TWO\n")
	if ln, err := lines.Next(); string(ln.Text) != "TWO" || ln.Number != 2 || ln.Offset != 4 || err != nil {
		t.Error(ln, err)
	}
	if _, ok := lines.Rest(); ok {
		t.Error("Rest returned a line at the end of a complete file")
	}
}

// An endless reader returns a line of left bytes.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return n, nil
}

func TestLines_long_line(t *testing.T) {
	const long = 3*artifact.MaxSize + 5
	lines := history.Lines{From: io.MultiReader(&endless{long}, strings.NewReader("\nnext\n"), &endless{long})}
	ln, err := lines.Next()
	if err != nil || !ln.Long || ln.Number != 1 || len(ln.Text) > artifact.MaxSize {
		t.Errorf("%d bytes, long %v, %v", len(ln.Text), ln.Long, err)
	}
	if ln, err = lines.Next(); err != nil || string(ln.Text) != "next" || ln.Long || ln.Number != 2 || ln.Offset != long+1 {
		t.Errorf("%+v, %v", ln, err)
	}
	if _, err = lines.Next(); err != io.EOF {
		t.Error(err)
	}
	if ln, ok := lines.Rest(); !ok || !ln.Long || len(ln.Text) > artifact.MaxSize {
		t.Errorf("%d bytes, long %v, %v", len(ln.Text), ln.Long, ok)
	}
}

const event = `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:01.007Z","message":"listening on 8080","boot_id":"6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11","details":{"port":8080},"uptime_ms":3301,"seq":2}`

func BenchmarkEvents(b *testing.B) {
	text := bytes.Repeat([]byte(event+"\n"), 10000)
	b.SetBytes(int64(len(event) + 1))
	b.ReportAllocs()
	for n := 0; n < b.N; {
		lines, decoder := history.Lines{From: bytes.NewReader(text)}, artifact.Decoder{}
		for ln, err := lines.Next(); err == nil && n < b.N; ln, err = lines.Next() {
			if _, err := decoder.Event(ln.Text); err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
}

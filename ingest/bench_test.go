package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

const (
	smallJSON  = `{"state":"ready","message":"guest agent is ready","details":{"step":"boot","elapsed_ms":1234.5,"host":"worker-17.example"}}`
	smallWords = `STATE=ready MESSAGE='guest agent is ready' DETAILS.step=boot DETAILS.elapsed_ms:=1234.5 DETAILS.host=worker-17.example`
)

func largeJSON() string {
	var b strings.Builder
	b.WriteString(`{"kind":"ready","details":{"log":[`)
	for i := range 1000 {
		fmt.Fprintf(&b, `{"at":%d,"text":"line %d of a \"log\"\n"},`, i, i)
	}
	return b.String() + `0]}}`
}

func largeWords() string {
	var b strings.Builder
	b.WriteString("KIND=ready")
	for i := range 200 {
		fmt.Fprintf(&b, ` DETAILS.name_%d=$'line %d of a \'log\'\n and what else there is to report about it'`, i, i)
	}
	return b.String()
}

// readingRunner returns a stream that reads.
func readingRunner(t testing.TB) *runner { return newRunner(&newGuest(t).Stream) }

// A common line is decoded and added to the batch without allocation.
func TestStream_allocations(t *testing.T) {
	for _, text := range []string{
		smallJSON, smallWords, `STATE=ready`, `{"state":"ready"}`, `# a comment`, ``,
		`KIND=failed MESSAGE=$'it\'s \xff'`, `{"kind":"failed","message":"\ud800é\n"}`,
		`TYPE=status STATE=ready MESSAGE="a b" DETAILS='{"b": [1, 2], "b": null}'`,
		`{"type":"event","kind":"ready","timestamp":"2026-03-25T20:00:00.5Z"}`,
	} {
		r := readingRunner(t)
		ln := line{text: []byte(text), number: 2}
		if n := testing.AllocsPerRun(100, func() {
			r.handle(&ln)
			r.batch.events.Reset()
		}); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
		if r.Rejected > 0 {
			t.Errorf("%s is rejected", text)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"JSON/small", smallJSON}, {"JSON/large", largeJSON()},
		{"KeyValue/small", smallWords}, {"KeyValue/large", largeWords()},
	} {
		b.Run(c.name, func(b *testing.B) {
			var dec directive.Decoder
			text := []byte(c.text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, rejected := dec.Decode(text, false); rejected != nil {
					b.Fatal(rejected)
				}
			}
		})
	}
}

// BenchmarkStream is a hundred thousand directives through a pipe to the
// artifacts, on a file system in memory as a guest's /run is.
func BenchmarkStream(b *testing.B) {
	const directives = 100_000
	text := strings.Repeat(smallJSON+"\n"+smallWords+"\n", directives/2)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		g := newGuest(b)
		w := g.open()
		w.print(text)
		if sum := w.close(); sum.Lines != directives || sum.Rejected != 0 {
			b.Fatalf("%+v", sum)
		}
		b.StopTimer()
		if n := strings.Count(g.read(writer.EventsName), "\n"); n != directives {
			b.Fatalf("%d events", n)
		}
		b.StartTimer()
	}
}

// BenchmarkCommit is a lone directive, from the line to the artifacts.
func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct{ name, text string }{{"JSON", smallJSON}, {"KeyValue", smallWords}} {
		b.Run(c.name, func(b *testing.B) {
			r := readingRunner(b)
			defer r.Dir.Close()
			ln := line{text: []byte(c.text), number: 2}
			b.ReportAllocs()
			for b.Loop() {
				r.handle(&ln)
				r.commit()
			}
			if r.Rejected > 0 || r.committer.lastSeq == 0 {
				b.Errorf("%+v", r.Summary)
			}
		})
	}
}

package writer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func benchEvent() *artifact.Event {
	return &artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("guest agent is ready"), BootID: "11111111-2222-4333-8444-555555555555",
		Details: strictjson.Value(`{"step":"boot","elapsed_ms":1234.5,"host":"worker-17.example"}`), Uptime: 4200e6}
}

func BenchmarkBatchAdd(b *testing.B) {
	var batch Batch
	e := benchEvent()
	b.ReportAllocs()
	for b.Loop() {
		if batch.Add(e); batch.Size() > 1<<20 {
			b.SetBytes(int64(batch.Size() / batch.Len()))
			batch.Reset()
		}
	}
}

func BenchmarkStatusReplace(b *testing.B) {
	d := In(testenv.TempDir(b))
	defer d.Close()
	s := &artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("guest agent is ready"), Seq: 1}
	b.ReportAllocs()
	for b.Loop() {
		testenv.Must(b, d.Status.Replace(s))
	}
}

// longLog creates a log of the given size that ends with an event. The rest of the
// file is a hole, which takes no memory, with a newline every 1 MiB.
func longLog(t testing.TB, size int64) (dir string) {
	dir = testenv.TempDir(t)
	f, err := os.Create(filepath.Join(dir, EventsName))
	testenv.Must(t, err)
	defer f.Close()
	for at := int64(1 << 20); at < size; at += 1 << 20 {
		_, err := f.WriteAt([]byte("\n"), at)
		testenv.Must(t, err)
	}
	last := "\n" + testLine(1000, "the last one")
	_, err = f.WriteAt([]byte(last), max(0, size-int64(len(last))))
	testenv.Must(t, err)
	return dir
}

// BenchmarkAppend locks logs of several sizes and appends to them, with one
// EventLog that stays open ("open") and with a new one each time ("new").
func BenchmarkAppend(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"1KB", 1 << 10}, {"1MB", 1 << 20}, {"1GB", 1 << 30}} {
		dir := longLog(b, size.bytes)
		b.Run("open/"+size.name, func(b *testing.B) {
			l := logIn(dir)
			defer l.lines.Dir.Close()
			batch := batchOf("up")
			b.ReportAllocs()
			for b.Loop() {
				testenv.Must(b, tryAppend(l, batch))
				batch.kept = 0
			}
		})
		b.Run("new/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := In(dir)
				testenv.Must(b, tryAppend(&d.Events, batchOf("up")))
				d.Close()
			}
		})
	}
}

// BenchmarkRepair appends to a log with a torn line.
func BenchmarkRepair(b *testing.B) {
	for _, tail := range []struct {
		name  string
		bytes int
	}{{"100B", 100}, {"1MB", 1 << 20}} {
		b.Run(tail.name, func(b *testing.B) {
			d := In(testenv.TempDir(b))
			defer d.Close()
			appendTo(b, &d.Events, "first")
			text := []byte(`{"schema_version":1,"kind":"` + strings.Repeat("x", tail.bytes))
			for b.Loop() {
				b.StopTimer()
				f, err := os.OpenFile(d.Events.Path, os.O_WRONLY|os.O_APPEND, 0)
				testenv.Must(b, err)
				_, err = f.Write(text)
				testenv.Must(b, err)
				testenv.Must(b, f.Close())
				testenv.Must(b, os.RemoveAll(d.Events.Path+".torn"))
				b.StartTimer()
				testenv.Must(b, tryAppend(&d.Events, batchOf("up")))
			}
		})
	}
}

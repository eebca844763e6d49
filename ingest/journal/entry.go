package journal

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"

	sd "github.com/coreos/go-systemd/v22/journal"
	"github.com/tidwall/gjson"
)

// Identifier is the SYSLOG_IDENTIFIER of every entry.
const Identifier = "pika-cloud-lifecycle"

// The MESSAGE_IDs, which docs/catalog explains. They are random, and for ever:
// an entry's ID is a part of its identity.
const (
	idRequested       = "66fb2d5fd0464e5a87de2c884e42d01b"
	idProvisioning    = "21a7ec1e2d494653970b39713d812121"
	idBooted          = "09cc2d7ac9bb4002b60bd3d1cd6710b9"
	idStarting        = "2471354b9dd84c4d85aef226483a9291"
	idReady           = "7e7929a6816c44579adeca16394df20e"
	idCompleted       = "87e9bd96030b4c56aa4d96b5631897e9"
	idFailed          = "7321d8680ead41288fc8eebaf692434c"
	idUnreachable     = "8d84f5e4b42740aca8bdf884165354a4"
	idStopped         = "4367b3f231e74d9d8e9b78ff1e2df533"
	idDestroyed       = "0453c24beebb443b8675b9776bce5bc1"
	idResultCompleted = "27e9217d83964ad08e4a69fbe23b2d4d"
	idResultFailed    = "6f92f71ade1b4d23b7886f6999dda552"
	idRefused         = "0ee4e0719bd64192a0e41ba928fe5a93"
	idMissed          = "5dbab519f2714037bc0827d9f724dc8c"
)

// kindID returns the MESSAGE_ID of events of a kind.
func kindID(kind artifact.State) string {
	switch kind {
	case artifact.Requested:
		return idRequested
	case artifact.Provisioning:
		return idProvisioning
	case artifact.Booted:
		return idBooted
	case artifact.Starting:
		return idStarting
	case artifact.Ready:
		return idReady
	case artifact.Completed:
		return idCompleted
	case artifact.Failed:
		return idFailed
	case artifact.Unreachable:
		return idUnreachable
	case artifact.Stopped:
		return idStopped
	}
	return idDestroyed
}

// outcomeID returns the MESSAGE_ID of results with an outcome.
func outcomeID(outcome artifact.Outcome) string {
	if outcome == artifact.OutcomeCompleted {
		return idResultCompleted
	}
	return idResultFailed
}

// priority returns how loud an entry about s is.
func priority(s artifact.State) sd.Priority {
	switch s {
	case artifact.Failed:
		return sd.PriErr
	case artifact.Unreachable:
		return sd.PriWarning
	}
	return sd.PriInfo
}

// An encoder makes entries in journald's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL). Names of fields stand here and nowhere
// else: whatever the input holds becomes a value.
type encoder struct {
	path   string // of the events log
	buf    []byte
	fields int // counted ones
}

// begin begins an entry with what all have.
func (e *encoder) begin(id string, p sd.Priority) {
	e.buf, e.fields = e.buf[:0], 0
	e.add("MESSAGE_ID", id)
	e.add("PRIORITY", strconv.Itoa(int(p)))
	e.add("SYSLOG_IDENTIFIER", Identifier)
	e.add("PIKA_EVENTS_PATH", e.path)
}

// add adds a field. A value with a newline is told by its length.
func (e *encoder) add(name, value string) {
	if isCounted(name) {
		e.fields++
	}
	e.buf = append(e.buf, name...)
	if strings.IndexByte(value, '\n') < 0 {
		e.buf = append(e.buf, '=')
	} else {
		e.buf = append(e.buf, '\n')
		e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(len(value)))
	}
	e.buf = append(e.buf, value...)
	e.buf = append(e.buf, '\n')
}

// end ends an entry, which says how many fields it has: journalctl and the
// uploader of systemd 252 leave out, without a word, a field that they cannot read
// because journald is writing the file (sd_journal_enumerate_data(3) skips it).
func (e *encoder) end() []byte {
	e.add("PIKA_FIELDS", strconv.Itoa(e.fields+1))
	return e.buf
}

// isCounted reports whether PIKA_FIELDS counts a field: whether it is one of ours.
func isCounted(name string) bool {
	return strings.HasPrefix(name, "PIKA_") || strings.HasPrefix(name, "MESSAGE")
}

// addSome adds a field unless its value is empty.
func (e *encoder) addSome(name, value string) {
	if value != "" {
		e.add(name, value)
	}
}

// An eventLine is a line of events.jsonl, its values as they stand there but
// for the message.
type eventLine struct {
	kind                                      artifact.State
	time, message, boot, details, uptime, seq string
}

func (l *eventLine) set(name, value gjson.Result) bool {
	switch name.Str {
	case "kind":
		l.kind = artifact.State(value.Str)
	case "timestamp":
		l.time = value.Str
	case "message":
		l.message = value.Str
	case "boot_id":
		l.boot = value.Str
	case "details":
		l.details = value.Raw
	case "uptime_ms":
		l.uptime = value.Raw
	case "seq":
		l.seq = value.Raw
	}
	return true
}

// event makes the entry of a line of events.jsonl.
func (e *encoder) event(line string) []byte {
	var l eventLine
	gjson.Parse(line).ForEach(l.set)
	e.begin(kindID(l.kind), priority(l.kind))
	e.add("MESSAGE", l.message)
	e.add("PIKA_KIND", string(l.kind))
	e.add("PIKA_SEQ", l.seq)
	e.add("PIKA_TIMESTAMP", l.time)
	e.addSome("PIKA_BOOT_ID", l.boot)
	e.addSome("PIKA_UPTIME_MS", l.uptime)
	e.addSome("PIKA_DETAILS", l.details)
	return e.end()
}

// timeFormat is the form of times in artifacts.
const timeFormat = "2006-01-02T15:04:05.000Z"

// result makes the entry of a result.
func (e *encoder) result(r *artifact.Result) []byte {
	e.begin(outcomeID(r.Outcome), priority(artifact.State(r.Outcome)))
	message, _ := r.Message.Text()
	e.add("MESSAGE", message)
	e.add("PIKA_OUTCOME", string(r.Outcome))
	if r.ExitCode != nil {
		e.add("PIKA_EXIT_CODE", strconv.Itoa(int(*r.ExitCode)))
	}
	if r.Seq > 0 {
		e.add("PIKA_SEQ", strconv.FormatUint(r.Seq, 10))
	}
	e.add("PIKA_TIMESTAMP", r.Time.UTC().Format(timeFormat))
	e.addSome("PIKA_BOOT_ID", r.BootID)
	e.addSome("PIKA_DETAILS", string(r.Details))
	return e.end()
}

// reject makes the entry of a line of rejected.jsonl.
func (e *encoder) reject(line string) []byte {
	l := gjson.Parse(line)
	raw := l.Get("raw").Str
	if encoded := l.Get("raw_base64"); encoded.Exists() {
		decoded, _ := base64.StdEncoding.DecodeString(encoded.Str)
		raw = string(decoded)
	}
	e.begin(idRefused, sd.PriWarning)
	e.add("MESSAGE", "line "+l.Get("line").Raw+", "+l.Get("error").Str)
	e.add("PIKA_LINE", l.Get("line").Raw)
	e.add("PIKA_OFFSET", l.Get("offset").Raw)
	e.add("PIKA_TIMESTAMP", l.Get("timestamp").Str)
	e.add("PIKA_RAW", raw)
	return e.end()
}

// missed makes the entry that says how many others there are not.
func (e *encoder) missed(n uint64) []byte {
	count := strconv.FormatUint(n, 10)
	e.begin(idMissed, sd.PriWarning)
	e.add("MESSAGE", "the journal missed "+count+" entries of the lifecycle; the artifacts have them")
	e.add("PIKA_MISSED", count)
	return e.end()
}

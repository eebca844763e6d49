package writer

import (
	"errors"
	"io/fs"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxWhole is the largest status or result that is read back: a line of input
// is at most 1 MiB by default and grows sixfold at the most when its bytes are
// escaped; what is larger was not written by us.
const maxWhole = 16 << 20

// errNotArtifact is given for what stands at an artifact's path and is none.
var errNotArtifact = errors.New("not an artifact that can be read")

// Read returns what the standing status says of State, Time, BootID and Seq; the
// other fields are left empty. It returns fs.ErrNotExist if there is none.
func (f *StatusFile) Read() (*Status, error) {
	fields, err := readFields(&f.whole.place, f.Path)
	if err != nil {
		return nil, err
	}
	return statusOf(fields, f.Path)
}

func statusOf(fields gjson.Result, path string) (*Status, error) {
	state, ok := ParseState(fields.Get("state").String())
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	return &Status{
		State:  state,
		Time:   timeOf(fields.Get("updated_at")),
		BootID: fields.Get("boot_id").String(),
		Seq:    fields.Get("seq").Uint(),
	}, nil
}

// Read returns what the standing result says of Outcome, Time, BootID and Seq; the
// other fields are left empty. It returns fs.ErrNotExist if there is none.
func (f *ResultFile) Read() (*Result, error) {
	fields, err := readFields(&f.whole.place, f.Path)
	if err != nil {
		return nil, err
	}
	return resultOf(fields, f.Path)
}

func resultOf(fields gjson.Result, path string) (*Result, error) {
	outcome, ok := ParseOutcome(fields.Get("status").String())
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	return &Result{
		Outcome: outcome,
		Time:    timeOf(fields.Get("finished_at")),
		BootID:  fields.Get("boot_id").String(),
		Seq:     fields.Get("seq").Uint(),
	}, nil
}

// readFields reads a whole artifact.
func readFields(p *place, path string) (gjson.Result, error) {
	text, err := readWhole(p, path)
	if err != nil {
		return gjson.Result{}, err
	}
	fields, ok := parse(text)
	if !ok {
		return gjson.Result{}, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	return fields, nil
}

// parse reads one object. gjson answers on invalid JSON too, and its own check
// recurses as deep as the text nests, which somebody else may have written: so
// the text is put into normal form first.
func parse(text []byte) (object gjson.Result, ok bool) {
	n := strictjson.Normaliser{Depth: strictjson.MaxDepth + 1} // the artifact around the details
	text, err := n.Normalise(nil, text)
	object = gjson.ParseBytes(text)
	return object, err == nil && object.IsObject()
}

// readWhole reads the file at path through its directory's descriptor.
func readWhole(p *place, path string) ([]byte, error) {
	if err := p.open(path); err != nil {
		return nil, err
	}
	f, err := p.openFile(p.name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.close()
	st, err := f.stat()
	if err != nil {
		return nil, err
	}
	if st.Size > maxWhole {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	text := make([]byte, st.Size)
	return text, f.readAt(text, 0)
}

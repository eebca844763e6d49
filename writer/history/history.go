// Package history reads the files of a state directory: the lines of a log one
// at a time, and the current status and result.
//
// It changes nothing, creates nothing and takes no lock. A file may have been
// copied from anywhere, may be torn, and may be hostile: memory is bounded by
// artifact.MaxSize, the longest line that is read, whatever the size of a file.
package history

import (
	"errors"
	"io"
	"io/fs"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// ReadAll reads a whole artifact, which must not be larger than
// artifact.MaxSize.
func ReadAll(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, artifact.MaxSize+1))
	if err == nil && len(text) > artifact.MaxSize {
		err = dirfs.ErrTooLarge
	}
	return text, err
}

// A Snapshot is the current status and result of a state directory. Each is nil
// if there is none. The texts are their normal forms, on one line.
type Snapshot struct {
	Status     *artifact.Status
	StatusText []byte
	Result     *artifact.Result
	ResultText []byte
}

// Read reads the status and the result in dir. It reads the status first, so
// that the result is not older.
func Read(dir string) (*Snapshot, error) {
	s := new(Snapshot)
	err := readFile(dir, writer.StatusName, func(text []byte) error {
		var d artifact.Decoder
		status, err := d.Status(text)
		s.Status, s.StatusText = status, d.Normal()
		return err
	})
	if err != nil {
		return nil, err
	}
	err = readFile(dir, writer.ResultName, func(text []byte) error {
		var d artifact.Decoder
		result, err := d.Result(text)
		s.Result, s.ResultText = result, d.Normal()
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// readFile decodes a file, if there is one. It accepts an artifact that other programs
// may read differently.
func readFile(dir, name string, decode func(text []byte) error) error {
	f, err := dirfs.Open(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := ReadAll(f)
	if err == nil {
		err = decode(text)
	}
	if err != nil && !artifact.IsAltered(err) {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return nil
}

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
	"os"

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
// if there is none that is valid. The text is the normal form, on one line.
type Snapshot struct {
	Status     *artifact.Status
	StatusText []byte
	StatusErr  error            // why the file is not a valid status; nil if it is valid or missing
	Result     *artifact.Result // without message and details, which may be large
	ResultErr  error            // as StatusErr
}

// Read reads the status and the result in dir. It reads the status first, so
// that the result is not older. An invalid file counts as missing, because the next
// writer replaces it. The error is of a file that cannot be read, or wraps
// artifact.ErrNewer.
func Read(dir string) (*Snapshot, error) {
	s := new(Snapshot)
	statusErr, err := readFile(dir, writer.StatusName, func(text []byte) (err error) {
		var d artifact.Decoder
		s.Status, err = d.Status(text)
		if s.Status != nil {
			s.StatusText = d.Normal()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	resultErr, err := readFile(dir, writer.ResultName, func(text []byte) (err error) {
		s.Result, err = new(artifact.Decoder).Result(text)
		if s.Result != nil {
			s.Result.Message, s.Result.Details = nil, nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.StatusErr, s.ResultErr = statusErr, resultErr
	return s, nil
}

// readFile decodes a file, if there is one. It accepts an artifact that other programs
// may read differently. invalid is the error of decode, and of a file that is too large.
func readFile(dir, name string, decode func(text []byte) error) (invalid, err error) {
	f, err := dirfs.Open(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readSized(f)
	if err == dirfs.ErrTooLarge {
		return err, nil
	}
	if err == nil {
		invalid = decode(text)
	}
	if invalid == artifact.ErrNewer {
		invalid, err = nil, artifact.ErrNewer
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: dirfs.Cause(err)}
	}
	if artifact.IsAltered(invalid) {
		invalid = nil
	}
	return invalid, nil
}

// readSized reads a file like ReadAll, but makes no copies while it does so.
func readSized(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > artifact.MaxSize {
		return nil, dirfs.ErrTooLarge
	}
	text := make([]byte, info.Size())
	n, err := io.ReadFull(f, text)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil // it was truncated
	}
	return text[:n], err
}

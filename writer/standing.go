package writer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Standing is what status.json and result.json say.
type Standing struct {
	Status *Status // State, Message, BootID and Seq; nil if there is none
	Result *Result // Outcome, BootID and Seq; nil if there is none
	Text   []byte  // of status.json, in normal form
}

// Look reads the standing of the state directory at path. Unlike the methods of
// the files it makes nothing, not even the directory: it is for those who only
// read. The status is read first, so that the result is no older.
func Look(path string) (*Standing, error) {
	s := new(Standing)
	name := filepath.Join(path, StatusName)
	fields, err := lookAt(name)
	if err == nil {
		if s.Status, err = statusOf(fields, name); err == nil {
			s.Text = []byte(fields.Raw)
			s.Status.Message = strictjson.AppendText(nil, fields.Get("message").String())
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name = filepath.Join(path, ResultName)
	if fields, err = lookAt(name); err == nil {
		s.Result, err = resultOf(fields, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s, nil
}

// lookAt reads a whole artifact.
func lookAt(path string) (fields gjson.Result, err error) {
	f, err := os.OpenFile(path, unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return fields, &fs.PathError{Op: "open", Path: path, Err: openCause(cause(err))}
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return fields, err
	case !info.Mode().IsRegular():
		return fields, &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	case info.Size() > maxWhole:
		return fields, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxWhole))
	if err != nil {
		return fields, err
	}
	fields, ok := parse(text)
	if !ok {
		return fields, &fs.PathError{Op: "read", Path: path, Err: errNotArtifact}
	}
	return fields, nil
}

package writer

import (
	"errors"
	"io/fs"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// pathError returns err as an *fs.PathError with op and path. If err contains a
// *dirfs.KindError, whose text already has a remedy, it returns that with path.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var kind *dirfs.KindError
	if errors.As(err, &kind) {
		return &dirfs.KindError{Path: path, Err: kind.Err}
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

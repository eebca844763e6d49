package writer

import (
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// maxTorn is the size in bytes beyond which the .torn file is emptied before the
// next torn line is added. Otherwise a writer that crashes in a loop would fill a tmpfs.
const maxTorn = 8 << 20

// repairTail repairs a torn line at the end of the file, which has the given
// size. If the line is complete and only its newline is missing, repairTail adds
// the newline. Otherwise it moves the torn line to the .torn file: it makes the
// copy there durable before it cuts the line off, so a crash in between leaves
// two copies and loses nothing. If it moves the whole file away, it closes the file.
func (f *lineFile) repairTail(size int64) error {
	isWhole, err := f.endsInNewline(size)
	if err != nil {
		return err
	}
	f.end = size
	if isWhole { //fault:repair-tail
		return nil
	}
	tail, start, err := lastText(f.file, size)
	if err == errTooFar {
		return f.moveToTorn()
	}
	if err != nil {
		return err
	}
	if tail != nil && f.isComplete != nil && f.isComplete(tail) {
		return f.append([]byte{'\n'})
	}
	f.end = start
	if err := f.copyToTorn(start, size); err != nil {
		return err
	}
	if err := f.file.Truncate(start); err != nil {
		return err
	}
	return f.file.Sync()
}

// endsInNewline reports whether the last of the first size bytes of the file is a newline, or
// the file is empty.
func (f *lineFile) endsInNewline(size int64) (bool, error) {
	if size == 0 {
		return true, nil
	}
	var last [1]byte
	_, err := f.file.ReadAt(last[:], size-1)
	return last[0] == '\n', err
}

// copyToTorn appends the bytes from start to size, and a newline, to the .torn
// file.
func (f *lineFile) copyToTorn(start, size int64) error {
	torn, err := f.OpenFile(f.name+tornSuffix, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT, artifactMode)
	if err != nil {
		return err
	}
	defer torn.Close()
	st, err := torn.Stat()
	if err != nil {
		return err
	}
	if st.Size > maxTorn {
		if err := torn.Truncate(0); err != nil {
			return err
		}
	}
	if err := copyRange(torn, f.file, start, size); err != nil {
		return err
	}
	if err := torn.Sync(); err != nil {
		return err
	}
	return f.Dir.Sync()
}

// moveToTorn renames a file that has no newline within maxBack to the .torn file,
// which it replaces, and closes it. It does not copy the last line, because a copy of
// a sparse file could fill the disk.
func (f *lineFile) moveToTorn() error {
	if err := f.Rename(f.name, f.name+tornSuffix); err != nil {
		return err
	}
	f.close()
	return f.Dir.Sync()
}

// copyRange appends the bytes of src from start to end, and a newline, to dst.
func copyRange(dst, src *dirfs.File, start, end int64) error {
	buf := make([]byte, 0, chunk+1)
	for start < end {
		buf = buf[:min(chunk, end-start)]
		if _, err := src.ReadAt(buf, start); err != nil {
			return err
		}
		start += int64(len(buf))
		if start == end {
			buf = append(buf, '\n')
		}
		if _, err := dst.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

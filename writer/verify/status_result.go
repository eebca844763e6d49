package verify

import (
	"bytes"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// checkStatusAndResult checks the status, the result and the previous result.
func (c *checker) checkStatusAndResult() error {
	err := c.checkFile(writer.StatusName, func(text []byte) (err error) {
		c.status, err = c.decoder.Status(text)
		return err
	})
	if err != nil {
		return err
	}
	err = c.checkFile(writer.PrevResultName, func(text []byte) error {
		_, err := c.decoder.Result(text)
		return err
	})
	if err != nil {
		return err
	}
	err = c.checkFile(writer.ResultName, func(text []byte) (err error) {
		c.result, err = c.decoder.Result(text)
		return err
	})
	if err != nil {
		return err
	}
	if s := c.status; s != nil {
		c.State = s.State
		c.statusRef = reference{seq: s.Seq, state: s.State, time: s.Time, bootID: s.BootID}
	}
	if r := c.result; r != nil {
		c.Outcome = r.Outcome
		c.resultRef = reference{seq: r.Seq, state: artifact.State(r.Outcome), time: r.Time, bootID: r.BootID}
	}
	return nil
}

// checkFile checks one of the files, if it exists.
func (c *checker) checkFile(name string, decode func(text []byte) error) error {
	f := c.files[name]
	if f == nil {
		return nil
	}
	if f.info.Size() > artifact.MaxSize {
		c.add(name, 0, false, "the file is larger than %d MiB", artifact.MaxSize>>20)
		return nil
	}
	text, err := history.ReadAll(f)
	if err != nil {
		return err
	}
	if err := decode(text); err != nil {
		remedy := "; remove it, or wait until a writer replaces it"
		if artifact.IsAltered(err) || err == artifact.ErrNewer {
			remedy = "" // other programs can read it
		}
		c.hasNewer = c.hasNewer || err == artifact.ErrNewer
		c.add(name, 0, false, "%v%s", err, remedy)
		return nil
	}
	f.native = c.decoder.UTC()
	if !bytes.HasSuffix(text, []byte("\n")) {
		c.add(name, 0, false, "the newline at the end is missing")
	}
	return nil
}

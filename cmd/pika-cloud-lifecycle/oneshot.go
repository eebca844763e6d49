package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// oneshotFlags holds the flags that status, event and result have in common.
type oneshotFlags struct {
	*flagSet
	dir      *string
	path     string // of the file to write
	pathFlag string // the flag that sets path
	message  *string
	details  *string
	journal  string // of event and result; status has no --journal
}

func (a *app) newOneshotFlags(name, usage, pathFlag string) *oneshotFlags {
	f := &oneshotFlags{flagSet: a.newFlags(name, usage), pathFlag: pathFlag, journal: "never"}
	f.dir = a.stateDir(f.flagSet)
	f.StringVar(&f.path, pathFlag, "", "")
	f.message = f.String("message", "", "")
	f.details = f.String("details-json", "null", "")
	return f
}

// parse parses and checks the command line, which must have the required flags and
// --message. file is the name of the file in the state directory.
func (f *oneshotFlags) parse(args []string, file string, required ...string) error {
	if err := f.parseAll(args); err != nil {
		return err
	}
	if err := f.require(append(required, "message")...); err != nil {
		return err
	}
	if !f.isGiven(f.pathFlag) {
		f.path = filepath.Join(*f.dir, file)
	}
	f.path = withoutSlash(f.path)
	if f.path == "" {
		return f.badUsage("--%s is empty; expected a file", f.pathFlag)
	}
	if err := f.checkStateDir(*f.dir); err != nil {
		return err
	}
	return f.checkMirror(f.journal)
}

// withoutSlash returns the path of a file without slashes and dots at its end. The Python
// command ignored them too: its pathlib reads log/ and log/. as log. path/filepath would
// split log/ into the directory log and a file log in it.
func withoutSlash(path string) string {
	for {
		short := strings.TrimSuffix(strings.TrimRight(path, "/"), "/.")
		if short == "" || short == path {
			return path
		}
		path = short
	}
}

// writeError returns a write error with what to do about it; nil if err is nil.
func (f *oneshotFlags) writeError(err error) error {
	if err == nil {
		return nil
	}
	var kind *dirfs.KindError
	if errors.As(err, &kind) && (f.isGiven(f.pathFlag) || f.isGiven("seq-path")) {
		return fmt.Errorf("%s: %s is %w; name a regular file", f.Name(), kind.Path, kind.Err)
	}
	option := stateDirOption
	if f.isGiven(f.pathFlag) {
		option = "--" + f.pathFlag
	}
	what, remedy := dirProblem(filepath.Dir(f.path), option, err)
	if remedy == "" {
		remedy = ingest.Remedy(err)
	}
	if remedy == "" {
		return err
	}
	return errors.New(what + "; " + remedy)
}

func (f *oneshotFlags) messageValue() strictjson.Value {
	return strictjson.AppendText(nil, *f.message)
}

// detailsValue returns the details in normal form, or nil for null. As in a directive,
// NaN and the infinities are null.
func (f *oneshotFlags) detailsValue() (strictjson.Value, error) {
	n := strictjson.Normaliser{NonFinite: true}
	value, err := n.Normalise(nil, []byte(*f.details))
	if err != nil {
		return nil, f.badUsage("--details-json: %v", directive.ExplainJSON([]byte(*f.details), err))
	}
	if string(value) == "null" {
		return nil, nil
	}
	return value, nil
}

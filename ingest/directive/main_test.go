package directive

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// check compares two strings.
func check(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is\n%.4000q\nexpected\n%.4000q", what, got, want)
	}
}

// goldenInputs returns the recorded streams.
func goldenInputs(f *testing.F) (inputs [][]byte) {
	paths, err := filepath.Glob("../../testdata/streams/golden-*/input")
	testenv.Must(f, err)
	if len(paths) == 0 {
		f.Fatal("no recorded streams found")
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		testenv.Must(f, err)
		inputs = append(inputs, text)
	}
	return inputs
}

// strict returns an error if the strictest JSON reader rejects text.
func strict(text []byte) error { return testenv.StrictJSON(string(text)) }

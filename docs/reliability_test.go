package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestReliability_tests_exist: a table of promises is worth what its tests
// are, so each name in it must be one.
func TestReliability_tests_exist(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(tests) == 0 {
		t.Fatalf("%d tests found: %v", len(tests), err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(testenv.ReadFile(t, "reliability.md"), -1)
	if len(names) < 30 {
		t.Errorf("reliability.md names %d tests; expected at least 30", len(names))
	}
	for _, m := range names {
		if !tests[m[1]] {
			t.Errorf("reliability.md names %s, which is no test", m[1])
		}
	}
}

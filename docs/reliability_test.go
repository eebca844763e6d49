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

// TestReliability_tests_exist checks that every test and subtest that
// reliability.md names is in the source.
func TestReliability_tests_exist(t *testing.T) {
	sources := map[string]string{} // by test: the text of its file
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			sources[string(m[1])] += string(text)
		}
		return err
	})
	if err != nil || len(sources) == 0 {
		t.Fatalf("%d tests found: %v", len(sources), err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)(?:/(\\w+))?`").FindAllStringSubmatch(testenv.ReadFile(t, "reliability.md"), -1)
	if len(names) < 30 {
		t.Errorf("reliability.md names %d tests; expected at least 30", len(names))
	}
	for _, m := range names {
		test, subtest := m[1], m[2]
		source, exists := sources[test]
		if !exists {
			t.Errorf("reliability.md names %s, which does not exist", test)
			continue
		}
		// The testing package replaces the spaces in a subtest's name.
		spaced := strings.ReplaceAll(subtest, "_", " ")
		if subtest != "" && !strings.Contains(source, `"`+subtest+`"`) && !strings.Contains(source, `"`+spaced+`"`) {
			t.Errorf("reliability.md names %s/%s, but %s has no such subtest", test, subtest, test)
		}
	}
}

package bootid

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestRead_same_as_cat(t *testing.T) {
	id, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%q is not a UUID", id)
	}
	out, err := exec.Command("cat", Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if id != strings.TrimSpace(string(out)) {
		t.Errorf("%s, expected %s", id, out)
	}
}

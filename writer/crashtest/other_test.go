//go:build !(linux && amd64)

package crashtest

import (
	"os"
	"testing"
)

// TestCrashPoints cannot run here: the tracer sets the registers of amd64.
func TestCrashPoints(t *testing.T) {
	if os.Getenv("CI") != "" {
		t.Fatal("the crash-point harness needs Linux on amd64")
	}
	t.Skip("the crash-point harness needs Linux on amd64")
}

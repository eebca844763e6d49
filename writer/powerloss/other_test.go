//go:build !(linux && amd64)

package powerloss

import (
	"os"
	"testing"
)

// TestPowerLossLosesNothing cannot run here: the tracer knows the system calls
// of Linux on amd64.
func TestPowerLossLosesNothing(t *testing.T) {
	if os.Getenv("CI") != "" {
		t.Fatal("the power-loss harness needs Linux on amd64")
	}
	t.Skip("the power-loss harness needs Linux on amd64")
}

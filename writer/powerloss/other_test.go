//go:build !(linux && amd64)

package powerloss

import (
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestPowerLossLosesNothing cannot run here: the tracer knows the system calls
// of Linux on amd64.
func TestPowerLossLosesNothing(t *testing.T) {
	testenv.Missing(t, "Linux on amd64")
}

//go:build !(linux && amd64)

package crashtest

import (
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestCrashPoints cannot run here: the tracer sets the registers of amd64.
func TestCrashPoints(t *testing.T) {
	testenv.Missing(t, "Linux on amd64")
}

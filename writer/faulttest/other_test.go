//go:build !(linux && amd64)

package faulttest

import (
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestFaults takes the place of all tests of this package: the tracer uses the registers
// of amd64.
func TestFaults(t *testing.T) { testenv.Missing(t, "Linux on amd64") }

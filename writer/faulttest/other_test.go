//go:build !(linux && amd64)

package faulttest

import (
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestFaults replaces all tests of this package on other systems, because the tracer
// uses the registers of amd64.
func TestFaults(t *testing.T) { testenv.Missing(t, "Linux on amd64") }

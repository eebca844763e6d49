//go:build !race && linux && amd64

package crashtest

const raceDetector = false

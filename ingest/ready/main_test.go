package ready

import (
	"os"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }

package nix_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A unit is a systemd unit as a NixOS module defines it.
type unit struct {
	Description   string
	Documentation []string
	WantedBy      []string
	RequiredBy    []string
	Requires      []string
	Wants         []string
	After         []string
	Before        []string
	BindsTo       []string
	PartOf        []string
	UnitConfig    map[string]any

	// For a service.
	Environment   map[string]*string
	Path          []string
	ServiceConfig map[string]any

	// For a socket and a mount.
	SocketConfig               map[string]any
	What, Where, Type, Options string
}

type user struct {
	UID   *int
	Group string
	Home  string
}

// A system is the output of testdata/system.nix.
type system struct {
	Services, Sockets map[string]unit
	Mounts            []unit
	Rules             []string
	Users             map[string]user
	Groups            map[string]struct{ GID *int }
	Path              []string
}

// evalSystem evaluates a system of modules, which are Nix expressions.
func evalSystem(t *testing.T, modules ...string) (s system) {
	t.Helper()
	eval(t, systemOf(modules...), &s)
	return s
}

func systemOf(modules ...string) string {
	return "import ./nix/testdata/system.nix { modules = [ { system.stateVersion = \"25.11\"; } " + strings.Join(modules, " ") + " ]; }"
}

// files renders the units as NixOS does, and returns the units that each target wants.
func (s *system) files() (text map[string]string, wanted map[string][]string) {
	text, wanted = make(map[string]string), make(map[string][]string)
	add := func(name string, u unit, section string, settings ...string) {
		text[name] = u.render(section, settings)
		for _, by := range u.WantedBy {
			wanted[by] = append(wanted[by], name)
		}
	}
	for name, u := range s.Services {
		add(name+".service", u, "Service", append(u.environment(), lines(u.ServiceConfig)...)...)
	}
	for name, u := range s.Sockets {
		add(name+".socket", u, "Socket", lines(u.SocketConfig)...)
	}
	for _, u := range s.Mounts {
		add(escape(u.Where)+".mount", u, "Mount", "What="+u.What, "Where="+u.Where, "Type="+u.Type, "Options="+u.Options)
	}
	return text, wanted
}

func (u *unit) render(section string, settings []string) string {
	var head []string
	for name, words := range map[string][]string{"Documentation": u.Documentation, "Requires": u.Requires, "Wants": u.Wants,
		"After": u.After, "Before": u.Before, "BindsTo": u.BindsTo, "PartOf": u.PartOf} {
		if len(words) > 0 {
			head = append(head, name+"="+strings.Join(words, " "))
		}
	}
	slices.Sort(head)
	head = append(append([]string{"Description=" + u.Description}, head...), lines(u.UnitConfig)...)
	text := "[Unit]\n" + strings.Join(head, "\n") + "\n\n[" + section + "]\n" + strings.Join(settings, "\n") + "\n"
	if len(u.WantedBy) > 0 {
		text += "\n[Install]\nWantedBy=" + strings.Join(u.WantedBy, " ") + "\n"
	}
	return text
}

// lines renders settings, with one line for each element of a list.
func lines(settings map[string]any) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		values, ok := settings[name].([]any)
		if !ok {
			values = []any{settings[name]}
		}
		for _, value := range values {
			all = append(all, fmt.Sprintf("%s=%v", name, value))
		}
	}
	return all
}

// environment renders the variables. PATH has the packages of the unit, and /usr/bin
// for the programs that NixOS adds to every unit.
func (u *unit) environment() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(u.Environment)) {
		if value := u.Environment[name]; value != nil {
			all = append(all, variable(name, *value))
		}
	}
	if len(u.Path) > 0 {
		all = append(all, variable("PATH", strings.Join(u.Path, "/bin:")+"/bin:/usr/bin"))
	}
	return all
}

func variable(name, value string) string {
	text, _ := json.Marshal(name + "=" + value)
	return "Environment=" + string(text)
}

// escape is systemd-escape --path, for the paths of these tests.
func escape(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.Trim(path, "/"), "-", `\x2d`), "/", "-")
}

var update = flag.Bool("u", false, "write the unit files in systemd again")

// The unit files for other images are those that the module generates by default.
func TestUnitFiles_match_module(t *testing.T) {
	t.Parallel()
	s := evalSystem(t, "./nix/module.nix", `{ services.pika-cloud-lifecycle = {
		enable = true;
		fifo.enable = true;
		package = { type = "derivation"; outPath = "/usr/local"; };
	}; }`)
	want, _ := s.files()
	want[program+".conf"] = strings.Join(s.Rules, "\n") + "\n"
	for name, text := range want {
		path := filepath.Join("systemd", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := testenv.ReadFile(t, path); got != text {
			t.Errorf("%s differs from the module; go test ./nix -u writes\n%s", path, text)
		}
	}
	if len(want) != 4 {
		t.Errorf("the module generates %v; expected two services, a socket and tmpfiles rules", slices.Sorted(maps.Keys(want)))
	}
}

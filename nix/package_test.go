package nix_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// built is the package, built by the steps of nixpkgs' buildGoModule.
var built = sync.OnceValues(func() (string, error) {
	build := exec.Command("nix-build", "--no-out-link", "nix", "--arg", "pkgs", "import ./nix/testdata/nixpkgs { }")
	build.Env = nixEnv()
	build.Dir, _ = tree()
	build.Stderr = os.Stderr
	out, err := build.Output()
	return strings.TrimSpace(string(out)), err
})

func needPackage(t *testing.T) string {
	t.Helper()
	mustNix(t, "nix-instantiate", "--version")
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPackage_files(t *testing.T) {
	t.Parallel()
	out := needPackage(t)
	for _, name := range []string{"bin/" + program, "share/man/man1/" + program + ".1",
		"lib/systemd/system/" + program + ".service", "lib/systemd/system/" + program + ".socket",
		"lib/systemd/system/pika-cloud-fleet@.service", "lib/systemd/catalog/" + program + ".catalog", "lib/tmpfiles.d/" + program + ".conf",
		"share/bash-completion/completions/" + program, "share/zsh/site-functions/_" + program, "share/fish/vendor_completions.d/" + program + ".fish"} {
		text := testenv.ReadFile(t, filepath.Join(out, name))
		if strings.Contains(text, "/usr/local/") && !strings.HasPrefix(name, "bin/") {
			t.Errorf("%s refers to /usr/local; expected the path of the package", name)
		}
		if strings.HasSuffix(name, ".service") && !strings.Contains(text, out+"/bin/"+program+" ") {
			t.Errorf("%s does not start the program of the package:\n%s", name, text)
		}
	}
	version, err := exec.Command(filepath.Join(out, "bin", program), "--version").Output()
	if want := program + " " + strings.TrimSpace(testenv.ReadFile(t, "../VERSION")) + "\n"; !strings.HasPrefix(string(version), want) {
		t.Errorf("the program prints %q, %v; expected %q", version, err, want)
	}
}

// ldd fails for a static program.
func TestPackage_static_and_stripped(t *testing.T) {
	t.Parallel()
	testenv.Tools(t, "ldd", "file")
	binary := filepath.Join(needPackage(t), "bin", program)
	if out, err := exec.Command("ldd", binary).CombinedOutput(); err == nil {
		t.Errorf("the program is not static: %s", out)
	}
	if out, err := exec.Command("file", binary).Output(); err != nil || !strings.Contains(string(out), ", stripped") {
		t.Errorf("file reports %s (%v); expected a stripped binary", out, err)
	}
}

func TestPackage_attributes(t *testing.T) {
	t.Parallel()
	var p struct {
		Args struct {
			Env     map[string]any
			DoCheck *bool
			Tools   []struct{ Name string } `json:"nativeCheckInputs"`
		}
		Meta struct {
			MainProgram string
			Platforms   []string
		}
	}
	eval(t, `let p = import ./nix { pkgs = import ./nix/testdata/nixpkgs { }; }; in {
		args = { inherit (p.args) env; doCheck = p.args.doCheck or null; nativeCheckInputs = map (i: { inherit (i) name; }) p.args.nativeCheckInputs; };
		inherit (p) meta; }`, &p)
	if p.Args.Env["CGO_ENABLED"] != json.Number("0") || p.Args.DoCheck != nil {
		t.Errorf("env %v, doCheck %v; expected CGO_ENABLED=0 and the default doCheck", p.Args.Env, p.Args.DoCheck)
	}
	if p.Meta.MainProgram != program || !slices.Equal(p.Meta.Platforms, []string{"x86_64-linux", "aarch64-linux"}) {
		t.Errorf("meta is %+v", p.Meta)
	}
}

func TestOverlay_package(t *testing.T) {
	t.Parallel()
	var name string
	eval(t, `let pkgs = import ./nix/testdata/nixpkgs { }; in (import ./nix/overlay.nix pkgs { }).pika-cloud-lifecycle.args.pname`, &name)
	if name != program {
		t.Errorf("the overlay has %q; expected %q", name, program)
	}
}

func TestVendorHash_matches_go_mod(t *testing.T) {
	t.Parallel()
	dir := needTree(t)
	want := regexp.MustCompile(`vendorHash = "(sha256-[^"]+)"`).FindStringSubmatch(testenv.ReadFile(t, "package.nix"))
	if want == nil {
		t.Fatal("package.nix has no vendorHash")
	}
	testenv.Tools(t, "nix")
	out, err := exec.Command(filepath.Join(dir, "nix/vendor-hash.sh")).Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != want[1] {
		t.Errorf("vendorHash is %s; expected %s (%v); run nix/vendor-hash.sh --update", want[1], got, err)
	}
}

func TestVendorHash_update(t *testing.T) {
	t.Parallel()
	from := needTree(t)
	testenv.Tools(t, "nix")
	to := filepath.Join(t.TempDir(), "tree")
	script := `cp -r "$1" "$2"; cd "$2"; sed -i 's/vendorHash = "sha256-../&XX/' nix/package.nix; nix/vendor-hash.sh --update; git diff --exit-code`
	if out, err := exec.Command("bash", "-euc", script, "bash", from, to).CombinedOutput(); err != nil {
		t.Errorf("%v: package.nix differs from the original\n%s", err, out)
	}
}

// A package from a locked flake contains its commit.
func TestFlake_commit_stamp(t *testing.T) {
	t.Parallel()
	from := needTree(t)
	to := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", to).Run() }) // files from a store are read-only
	mustNix(t, "bash", "-euc", `cd "$1"; nix flake lock --offline --override-input nixpkgs "$2" ./nix
		git add -A; git -c user.name=t -c user.email=t@t commit -qm lock`, "bash", to, pathFlake(t, to))
	rev := mustNix(t, "git", "-C", to, "rev-parse", "HEAD")
	out := mustNix(t, "bash", "-euc", `cd "$1"; nix build --offline -o result ./nix; result/bin/pika-cloud-lifecycle --version`, "bash", to)
	want := program + " " + strings.TrimSpace(testenv.ReadFile(t, "../VERSION")) + "+" + rev[:7] + "\ncommit " + rev + "\n"
	if !strings.HasPrefix(out, want) {
		t.Errorf("the program prints %q; expected %q", out, want)
	}
}

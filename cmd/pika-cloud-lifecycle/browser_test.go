package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image/color"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// browse opens a file in a headless Chromium, and returns its standard output.
func browse(t *testing.T, path string, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := testenv.PlainDir(t) // for its sockets too, which it does not remove
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
		"--hide-scrollbars", "--user-data-dir=" + dir}, flags...)
	cmd := exec.CommandContext(ctx, "chromium", append(args, (&url.URL{Scheme: "file", Path: path}).String())...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return string(out)
}

// measure is a script that writes where the texts of each picture in a page are drawn.
const measure = `<pre id="found"></pre><script>
const drawn = {};
for (const div of document.querySelectorAll("div")) {
	const svg = div.querySelector("svg"), page = svg.getBoundingClientRect();
	drawn[div.id] = {width: page.width, height: page.height, titles: svg.querySelectorAll("g>title").length,
		texts: [...svg.querySelectorAll("text")].map(e => {
			const b = e.getBoundingClientRect();
			return {text: e.textContent, x: b.left - page.left, y: b.top - page.top, right: b.right - page.left, bottom: b.bottom - page.top,
				inside: e.getAttribute("class") == "in", bar: (e.parentNode.querySelector("rect.bar")?.getBoundingClientRect().right ?? 0) - page.left};
		})};
}
document.getElementById("found").textContent = JSON.stringify(drawn);
</script>`

// A drawnPicture is a picture as a browser draws it, and a drawnText a text in it.
type (
	drawnPicture struct {
		Width, Height float64
		Titles        int
		Texts         []drawnText
	}
	drawnText struct {
		Text                     string
		X, Y, Right, Bottom, Bar float64
		Inside                   bool
	}
)

// inBrowser returns pictures as a browser draws them.
func inBrowser(t *testing.T, svgs map[string]string) (drawn map[string]drawnPicture) {
	t.Helper()
	page := []byte(`<!doctype html><meta charset="utf-8"><body style="margin:0">`)
	for name, svg := range svgs {
		page = fmt.Appendf(page, "<div id=%q>%s</div>", name, svg)
	}
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, append(page, measure...), 0o600); err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)<pre id="found">(.*?)</pre>`).FindStringSubmatch(browse(t, path, "--dump-dom"))
	if found == nil {
		t.Fatal("the script of the page did not run")
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(found[1])), &drawn); err != nil {
		t.Fatal(err)
	}
	return drawn
}

func TestPlot_in_browser(t *testing.T) {
	testenv.Tool(t, "chromium")
	expected := map[string][]string{
		"guest":   {"boot 1 of 2", "boot 2 of 2", "unreachable", "// 16m32s //", "2.716s", `service exited with 3: panic: \u001b[31mindex out of`, "all 412 tests passed"},
		"three":   {"3 events, 1 boot", "884ms", "8.093s · listening on 8080", "all tests passed", "since boot", "10s"},
		"short":   {"300ms · starting make test", "exit code 7 · make: *** [test] Error 7", "result: failed, exit code 7, at", "since the first event, 2h00m after boot"},
		"crowded": {"5 messages left out at ▾; point there, or run show", "result: completed, exit code 0, at", "exit code 0 · seven"},
		"python":  {"since the first event", "by the wall clock: no uptime is known"},
		"hostile": {"16 events, 2 boots, 8 failures", "<1> · ", `]]>\u0000\ufffe</title>`},
		"many":    {"3000 events, 3 boots, 4 failures", "boot 3 of 3", "×"},
	}
	pictures := inBrowser(t, plotted(t))
	if len(pictures) != len(expected) {
		t.Errorf("%d pictures are drawn", len(pictures))
	}
	for name, p := range pictures {
		var all strings.Builder
		for i, text := range p.Texts {
			all.WriteString(text.Text + "\n")
			if text.Text == "" {
				t.Errorf("%s has an empty text: %+v", name, text)
			}
			if text.X < 0 || text.Right > p.Width-20 || text.Y < 0 || text.Bottom > p.Height {
				t.Errorf("%s: %q is drawn outside: %+v of %v x %v", name, text.Text, text, p.Width, p.Height)
			}
			if text.Inside && text.Right > text.Bar {
				t.Errorf("%s: %q is wider than its bar: %+v", name, text.Text, text)
			}
			for _, other := range p.Texts[:i] {
				if text.X < other.Right && other.X < text.Right && text.Y+3 < other.Bottom && other.Y+3 < text.Bottom {
					t.Errorf("%s: %q is drawn over %q", name, text.Text, other.Text)
				}
			}
		}
		for _, want := range expected[name] {
			if !strings.Contains(all.String(), want) {
				t.Errorf("%s does not show %q:\n%s", name, want, all.String())
			}
		}
		if p.Titles == 0 || len(p.Texts) == 0 {
			t.Errorf("%s has %d tooltips and %d texts", name, p.Titles, len(p.Texts))
		}
	}
}

// pixels returns how many pixels of a screenshot have each of the colours, and how
// many colours there are.
func pixels(t *testing.T, path string, wanted ...color.RGBA) (counts []int, colours int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shot, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[color.RGBA]int)
	for y := range shot.Bounds().Dy() {
		for x := range shot.Bounds().Dx() {
			seen[color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA)]++
		}
	}
	for _, c := range wanted {
		counts = append(counts, seen[c])
	}
	return counts, len(seen)
}

// The picture in the docs is a screenshot of testdata/look/plot.svg.
func TestPlot_screenshot(t *testing.T) {
	testenv.Tool(t, "chromium")
	svg, err := filepath.Abs(filepath.Join(lookDir, "plot.svg"))
	if err != nil {
		t.Fatal(err)
	}
	shot := filepath.Join(t.TempDir(), "plot.png")
	browse(t, svg, "--window-size=1200,594", "--screenshot="+shot)
	ready, failed, page := color.RGBA{0x3d, 0x9e, 0x62, 255}, color.RGBA{0xd4, 0x3d, 0x4a, 255}, color.RGBA{0xf6, 0xf7, 0xfa, 255}
	counts, colours := pixels(t, shot, ready, failed, page)
	if counts[0] < 5000 || counts[1] < 50 || counts[2] < 20000 || colours < 50 {
		t.Errorf("%d pixels of a bar, %d of a failure, %d of the page, %d colours", counts[0], counts[1], counts[2], colours)
	}
	inDocs := "../../docs/plot.png"
	if *update {
		text, err := os.ReadFile(shot)
		if err == nil {
			err = os.WriteFile(inDocs, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if kept, _ := pixels(t, inDocs, ready, failed, page); kept[0] < counts[0]/2 || kept[1] < counts[1]/2 || kept[0] > 2*counts[0] {
		t.Errorf("docs/plot.png differs from the screenshot; -u writes it: %d, %d", kept, counts)
	}
}

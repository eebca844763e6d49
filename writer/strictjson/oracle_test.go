package strictjson

import (
	"bytes"
	"encoding/base64"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// Programs that check the normal form with other JSON readers. The test starts
// each program once. Each line of its input is an accepted text and its normal
// form, in base64. The program prints a line for each pair whose normal form it
// cannot read, and for each pair that has two different values.

// The Python program replaces lone surrogates in the value of the original by
// U+FFFD before it compares. It compares floats by their text.
const pythonReader = `
import base64, json, math, sys
def no(name): raise ValueError(name)
def clean(text): return ''.join('\ufffd' if '\ud800' <= c <= '\udfff' else c for c in text)
def tidy(value):
    if isinstance(value, str): return clean(value)
    if isinstance(value, list): return [tidy(v) for v in value]
    return value
def members(pairs): return {clean(k): tidy(v) for k, v in pairs}
def load(text): return json.loads(text, parse_constant=no, parse_float=lambda f: ['float', f], object_pairs_hook=members)
def finite(text): return float(text) if math.isfinite(float(text)) else no(text)
compared = 0
for n, line in enumerate(sys.stdin):
    text, normal = (base64.b64decode(part) for part in line.split())
    try:
        got = load(normal.decode())
        json.loads(normal, parse_constant=no, parse_float=finite)
    except Exception as e:
        print(n, 'does not load:', e); continue
    try: want = tidy(load(text.decode()))
    except UnicodeDecodeError: continue
    except Exception as e:
        print(n, 'the original does not load:', e); continue
    compared += 1
    if repr(want) != repr(got): print(n, 'differs:', want, got)
print('compared', compared)
`

// In the JavaScript program, two names may become equal when lone surrogates are
// replaced. Which value is then the last one depends on the order of the members,
// which JavaScript does not keep. The program does not compare such originals.
const nodeReader = `
const { isDeepStrictEqual } = require('util')
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
function clean(value) {
  if (typeof value === 'string') return value.toWellFormed()
  if (Array.isArray(value)) return value.map(clean)
  if (value === null || typeof value !== 'object') return value
  const names = Object.keys(value), clear = Object.fromEntries(names.map(k => [k.toWellFormed(), clean(value[k])]))
  if (Object.keys(clear).length !== names.length) throw new RangeError('names fall together')
  return clear
}
function finite(key, value) {
  if (typeof value === 'number' && !isFinite(value)) throw new Error('infinite')
  return value
}
let compared = 0
require('fs').readFileSync(0, 'latin1').trimEnd().split('\n').forEach((line, n) => {
  const [text, normal] = line.split(' ').map(part => Buffer.from(part, 'base64'))
  let got, want
  try { got = JSON.parse(strict.decode(normal), finite) } catch (e) { return console.log(n, 'does not load:', e.message) }
  try { want = strict.decode(text) } catch { return }
  try { want = clean(JSON.parse(want)) } catch (e) {
    if (!(e instanceof RangeError)) console.log(n, 'the original does not load:', e.message)
    return
  }
  compared++
  if (!isDeepStrictEqual(want, got)) console.log(n, 'differs')
})
console.log('compared', compared)
`

func oracle(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command(testenv.Tool(t, name), args...)
}

func TestNormalise_loads_in_other_readers(t *testing.T) {
	texts, normals := acceptedCorpus(t)
	var pairs bytes.Buffer
	for i, text := range texts {
		pairs.WriteString(base64.StdEncoding.EncodeToString(text) + " " + base64.StdEncoding.EncodeToString(normals[i]) + "\n")
	}
	for _, args := range [][]string{{"python3", "-c", pythonReader}, {"node", "-e", nodeReader}} {
		t.Run(args[0], func(t *testing.T) {
			cmd := oracle(t, args[0], args[1:]...)
			cmd.Stdin = bytes.NewReader(pairs.Bytes())
			checkReader(t, cmd, texts)
		})
	}
	t.Run("jq", func(t *testing.T) { checkJQ(t, normals) })
}

func acceptedCorpus(t *testing.T) (texts, normals [][]byte) {
	var n Normaliser
	for _, text := range append(corpus(20000), hostileSmall()...) {
		if normal, err := n.Normalise(nil, []byte(text)); err == nil {
			texts, normals = append(texts, []byte(text)), append(normals, normal)
		}
	}
	t.Logf("%d texts", len(texts))
	return texts, normals
}

// hostileSmall returns small hostile texts, always in the same order, because the
// programs report a text by its line number.
func hostileSmall() (texts []string) {
	all := hostileTexts(mebibyte / 32)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		texts = append(texts, all[name])
	}
	return texts
}

func checkReader(t *testing.T, cmd *exec.Cmd, texts [][]byte) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
	for _, line := range lines[:min(len(lines)-1, 10)] {
		t.Errorf("%.500s", line)
	}
	if len(lines) == 1 && len(lines[0]) < len("compared 1000") {
		t.Errorf("the program compared only %s of %d texts", lines[0], len(texts))
	}
}

// checkJQ checks only that jq reads the texts and finds the right type. It does
// not compare values, because jq stores all numbers as doubles and sorts keys.
func checkJQ(t *testing.T, normals [][]byte) {
	cmd := oracle(t, "jq", "-c", "type")
	cmd.Stdin = bytes.NewReader(append(bytes.Join(normals, []byte("\n")), '\n'))
	out, err := cmd.CombinedOutput()
	if lines := bytes.Count(out, []byte("\n")); err != nil || lines != len(normals) {
		t.Fatalf("%v: loaded %d of %d: %.300s", err, lines, len(normals), out[max(0, len(out)-300):])
	}
	for i, kind := range strings.Fields(string(out)) {
		if !strings.HasPrefix(kinds[normals[i][0]], kind[1:2]) {
			t.Fatalf("jq reads %.100q as a %s", normals[i], kind)
		}
	}
}

// kinds maps the first byte of a value to the first letter of its type in jq.
var kinds = map[byte]string{
	'"': "s", '{': "o", '[': "a", 't': "b", 'f': "b", 'n': "n", '-': "n", '0': "n", '1': "n", '2': "n",
	'3': "n", '4': "n", '5': "n", '6': "n", '7': "n", '8': "n", '9': "n",
}

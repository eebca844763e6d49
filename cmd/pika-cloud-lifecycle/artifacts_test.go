package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sledtools/pika-cloud-lifecycle/docs/schema"
)

// schemas are the schemas of the artifacts that a script may leave, by name.
type schemas map[string]*jsonschema.Schema

// artifactSchemas has the schema that describes each file, or each line of it.
var artifactSchemas = map[string]string{
	"status.json": "status.json", "result.json": "result.json", "result.json.prev": "result.json",
	"events.jsonl": "events.json", "events.jsonl.1": "events.json", "rejected.jsonl": "rejected.json",
}

func compileSchemas(t *testing.T) schemas {
	all := make(schemas)
	for artifact, name := range artifactSchemas {
		text, err := schema.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
		if all[artifact], err = c.Compile(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// checkAll compares every artifact below dir with its schema, and returns how many there
// were. It ignores files that have not changed since before, such as a script's own.
func (s schemas) checkAll(dir string, before map[string]string) (checked int, err error) {
	now, err := readArtifacts(dir)
	for path, text := range now {
		if text == before[path] {
			continue
		}
		for _, object := range s.objects(path, text) {
			if err := s.check(path, object); err != nil {
				return checked, fmt.Errorf("%s: %s: %w", path, object, err)
			}
		}
		checked++
	}
	return checked, err
}

// objects returns the objects of an artifact, each of which a schema describes.
func (s schemas) objects(path, text string) []string {
	if ext := filepath.Ext(path); ext == ".json" || ext == ".prev" {
		return []string{text}
	}
	return linesOf(text)
}

func (s schemas) check(path, object string) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(object)))
	if err != nil {
		return err
	}
	return s[filepath.Base(path)].Validate(value)
}

// readArtifacts returns the text of every artifact below dir that is a regular
// file, by path.
func readArtifacts(dir string) (map[string]string, error) {
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || artifactSchemas[d.Name()] == "" {
			return err
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	})
	return found, err
}

// TestSchemas_invalid_artifacts checks that checkAll finds an invalid file of each kind.
func TestSchemas_invalid_artifacts(t *testing.T) {
	s := compileSchemas(t)
	for name := range artifactSchemas {
		dir := t.TempDir()
		text, _ := json.Marshal(map[string]any{"schema_version": 1, "state": "redy"})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.checkAll(dir, nil); err == nil {
			t.Errorf("an invalid %s was accepted", name)
		}
	}
}

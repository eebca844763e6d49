package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/docs/schema"
)

// schema prints one JSON Schema, or all of them in one object.
func (w *world) schema(args []string) error {
	flags := flag.NewFlagSet("schema", flag.ContinueOnError)
	operands, err := w.parseOperands(flags, schemaUsage, args)
	if err != nil {
		return err
	}
	names, err := schemaNames()
	switch {
	case err != nil:
		return err
	case len(operands) > 1:
		return badUsage("schema: expected one name, not %d", len(operands))
	case len(operands) == 1 && !slices.Contains(names, operands[0]):
		return badUsage("schema: there is no schema %q; expected one of %s%s", operands[0],
			strings.Join(names, ", "), didYouMean(operands[0], names))
	case len(operands) == 1:
		text, err := schema.Files.ReadFile(operands[0] + ".json")
		if err == nil {
			_, err = w.stdout.Write(text)
		}
		return err
	}
	return w.allSchemas(names)
}

func schemaNames() (names []string, err error) {
	files, err := schema.Files.ReadDir(".")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names, err
}

// allSchemas writes an object with each schema under its name.
func (w *world) allSchemas(names []string) error {
	sep := "{\n"
	for _, name := range names {
		text, err := schema.Files.ReadFile(name + ".json")
		if err == nil {
			_, err = fmt.Fprintf(w.stdout, "%s%q: %s", sep, name, strings.TrimSuffix(string(text), "\n"))
		}
		if err != nil {
			return err
		}
		sep = ",\n"
	}
	_, err := io.WriteString(w.stdout, "\n}\n")
	return err
}

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/docs/schema"
)

// schemaMain prints one JSON Schema, or all of them as one object.
func schemaMain(a *app, args []string) error {
	f := a.newFlags("schema", schemaUsage)
	operands, err := f.parseOperands(args)
	if err != nil {
		return err
	}
	names, err := schemaNames()
	if err != nil {
		return err
	}
	if len(operands) == 0 {
		return a.printSchemas(names)
	}
	if len(operands) > 1 {
		return f.badUsage("unexpected argument %q; expected one name", operands[1])
	}
	name := operands[0]
	stem, _, _ := strings.Cut(name, ".") // a user may give the name of the file
	if !slices.Contains(names, name) {
		return f.badUsage("%q is not a schema; expected one of %s%s", name, strings.Join(names, ", "), didYouMean(stem, names))
	}
	text, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text)
	return err
}

func schemaNames() (names []string, err error) {
	files, err := schema.Files.ReadDir(".")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names, err
}

// printSchemas prints an object that has each schema under its name.
func (a *app) printSchemas(names []string) error {
	sep := "{\n"
	for _, name := range names {
		text, err := schema.Files.ReadFile(name + ".json")
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s%q: %s", sep, name, strings.TrimSuffix(string(text), "\n"))
		}
		if err != nil {
			return err
		}
		sep = ",\n"
	}
	_, err := io.WriteString(a.stdout, "\n}\n")
	return err
}

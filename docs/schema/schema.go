// Package schema embeds the JSON Schemas (draft 2020-12) of the artifacts and of
// the directive, for Go programs that validate them.
//
// docs/format.md and docs/protocol.md describe what a schema cannot express, such
// as the order of keys.
package schema

import "embed"

// Files contains status.json, events.json (one line of events.jsonl), result.json,
// rejected.json (one line of rejected.jsonl) and directive.json (one line of
// input in JSON).
//
//go:embed *.json
var Files embed.FS

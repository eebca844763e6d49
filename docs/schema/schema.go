// Package schema holds the JSON Schemas (draft 2020-12) of the artifacts and of
// the directive, as embedded files, for whoever wants to check one in Go.
//
// What a schema cannot say, such as the order of keys, stands in
// docs/format.md and docs/protocol.md.
package schema

import "embed"

// Files holds status.json, events.json (one line of events.jsonl), result.json,
// rejected.json (one line of rejected.jsonl) and directive.json (one line of
// input in JSON).
//
//go:embed *.json
var Files embed.FS

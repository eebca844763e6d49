package ingest

import (
	"slices"
)

// A Policy says what happens to a transition that Follows does not know.
type Policy int

// The policies.
const (
	Warn    Policy = iota // it is taken, and said
	Enforce               // it is refused
	Off                   // it is taken
)

// ParsePolicy returns the policy of a word: warn, enforce or off.
func ParsePolicy(word string) (Policy, bool) {
	i := slices.Index(policyWords[:], word)
	return Policy(i), i >= 0
}

var policyWords = [...]string{Warn: "warn", Enforce: "enforce", Off: "off"}

func (p Policy) String() string { return policyWords[p] }

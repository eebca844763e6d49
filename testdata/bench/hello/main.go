// Command hello is the least that a Go program can do: what a one-shot command
// is measured against.
package main

import "fmt"

func main() { fmt.Println("hello") }

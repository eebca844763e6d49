// Command hello is a minimal Go program. The start-up time of a one-shot command is
// compared with it.
package main

import "fmt"

func main() { fmt.Println("hello") }

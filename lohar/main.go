// Lohar is the agent inside every guest, and on the host the launcher that puts a VMM into its jail.
package main

import (
	"fmt"
	"os"

	"bhatti/lohar/internal/agent"
	"bhatti/lohar/internal/boot"
	"bhatti/lohar/internal/jail"
)

// version is set by the linker.
var version = "dev"

func main() {
	agent.Version = version
	switch {
	case os.Getpid() == 1:
		boot.Run()
	case len(os.Args) > 1 && os.Args[1] == "jail":
		os.Exit(jail.Main(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "serve":
		os.Exit(agent.ServeMain(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "poke":
		os.Exit(agent.PokeMain(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "version":
		fmt.Println(version)
	default:
		fmt.Fprintln(os.Stderr, "lohar runs as PID 1 of a guest; on a host: lohar jail …, lohar serve …, lohar version")
		os.Exit(2)
	}
}

// Command lohar is the agent inside every guest (PID 1) and, on the host, the launcher of jailed VMMs.
package main

import (
	"fmt"
	"os"

	"bhatti/lohar/internal/archive"
	"bhatti/lohar/internal/jail"
	"bhatti/lohar/internal/poke"
	"bhatti/lohar/internal/shutdown"
)

// version is set at build time.
var version = "dev"

func main() {
	personality := ""
	if len(os.Args) > 1 {
		personality = os.Args[1]
	}
	switch {
	case personality == jail.Enter:
		// Process 1 too, but of a VMM's namespace.
		os.Exit(jail.EnterMain(os.Args[2:]))
	case os.Getpid() == 1:
		pid1()
	case shutdown.Called(os.Args[0]):
		os.Exit(shutdown.Main(os.Args))
	case personality == "jail":
		os.Exit(jail.Main(os.Args[2:]))
	case personality == "archive":
		os.Exit(archive.Main(os.Args[2:]))
	case personality == "poke":
		os.Exit(poke.Main(os.Args[2:]))
	case personality == "serve":
		os.Exit(serve(os.Args[2:]))
	case personality == "version":
		fmt.Println(version)
	default:
		fmt.Fprint(os.Stderr, help)
		os.Exit(2)
	}
}

const help = `lohar is bhatti's guest agent. As process 1 of a virtual machine it runs that machine; anywhere else it does
nothing unless told what to be:

  lohar jail ...      start a VMM in its jail (used by the daemon)
  lohar archive ...   hash sparse files, unpack archives of snapshots (used by the daemon)
  lohar poke ...      warm up the agent of a waiting machine (used by the daemon)
  lohar serve --listen ADDRESS (--token-file FILE | --unconfigured) [--root-uid]
                      serve the guest protocol on this machine, for tests; commands run with your rights
  lohar version
`

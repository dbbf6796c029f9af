// Package shutdown is reboot, poweroff, halt and shutdown for images that bring none of their own.
package shutdown

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bhatti/lohar/internal/machine"
	"golang.org/x/sys/unix"
)

// Names the agent's binary can be called by.
var Names = []string{"reboot", "poweroff", "halt", "shutdown"}

// wish is what a command line asks for.
type wish struct {
	reboot, force, help bool
	delay               time.Duration
}

// Called reports whether the program was called by one of Names.
func Called(argv0 string) bool {
	for _, n := range Names {
		if filepath.Base(argv0) == n {
			return true
		}
	}
	return false
}

// Main tells process 1 what is wanted, and returns the exit code.
func Main(argv []string) int {
	name := filepath.Base(argv[0])
	w, err := parse(name, argv[1:])
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 2
	case w.help:
		fmt.Print(help)
		return 0
	case os.Geteuid() != 0:
		fmt.Fprintf(os.Stderr, "%s: only root may do that: sudo %s\n", name, strings.Join(append([]string{name}, argv[1:]...), " "))
		return 1
	}
	time.Sleep(w.delay)
	if w.force {
		unix.Sync()
		command := machine.OffCommand()
		if w.reboot {
			command = unix.LINUX_REBOOT_CMD_RESTART
		}
		err = unix.Reboot(command)
	} else {
		signal := syscall.SIGUSR2
		if w.reboot {
			signal = syscall.SIGINT
		}
		err = syscall.Kill(1, signal)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

const help = `usage: reboot|poweroff|halt [-f]
       shutdown [-r|-P|-h] [now|+MINUTES]

-f, --force   at once: processes are not asked to end, file systems not unmounted
`

func parse(name string, args []string) (w wish, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(nowhere{})
	both := func(target *bool, names ...string) {
		for _, n := range names {
			flags.BoolVar(target, n, *target, "")
		}
	}
	w.reboot = name == "reboot"
	var off bool
	both(&w.force, "f", "force")
	both(&w.help, "help")
	both(&w.reboot, "r", "reboot")
	both(&off, "h", "P", "H", "p", "poweroff", "halt")
	if err := flags.Parse(args); err != nil {
		return w, err
	}
	w.reboot = w.reboot && !off
	if name != "shutdown" {
		if flags.NArg() > 0 {
			return w, fmt.Errorf("unexpected %q", flags.Arg(0))
		}
		return w, nil
	}
	switch when := flags.Arg(0); {
	case when == "now" || when == "":
	case strings.HasPrefix(when, "+"):
		minutes, err := strconv.ParseUint(when[1:], 10, 16)
		if err != nil {
			return w, fmt.Errorf("%q is not a number of minutes", when)
		}
		w.delay = time.Duration(minutes) * time.Minute
	default:
		return w, fmt.Errorf("%q: give now or +MINUTES", when)
	}
	return w, nil
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

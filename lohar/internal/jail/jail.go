// Package jail starts a VMM as an unprivileged process in namespaces of its own and stays beside it as its keeper.
//
// Two processes: the keeper (root with CAP_KILL alone, in the host's namespaces) pumps what the VMM and the guest print
// into ring files and passes the VMM's exit status on; the VMM is process 1 of its own PID namespace, so that its end is
// the end of everything that runs as its user. Neither needs the daemon. docs/jail.md tells what the VMM can touch.
package jail

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

type options struct {
	root, netns, cgroup         string
	log, console, qmp, incoming string
	out, jailer, id, fifo       string
	uid, gid                    int
	nofile, nproc, fsize        uint64
	binds, devices, copies      list
	seccomp                     string
}

// Enter is the name under which the keeper starts itself again as the process that becomes the VMM.
const Enter = "jail-enter"

// failed is the exit status of a jail that could not be built.
const failed = 125

func parse(args []string) (*options, []string, error) {
	var o options
	fs := flag.NewFlagSet("jail", flag.ContinueOnError)
	fs.StringVar(&o.root, "root", "", "empty directory, mount point of the VMM's root (not seen outside)")
	fs.StringVar(&o.netns, "netns", "", "network namespace name")
	fs.StringVar(&o.cgroup, "cgroup", "", "cgroup v2 directory to join")
	fs.StringVar(&o.log, "log", "", "ring file for the VMM's stderr, begun anew")
	fs.StringVar(&o.console, "console", "", "ring file for the VMM's stdout: the guest's console, appended to")
	fs.StringVar(&o.qmp, "qmp", "", "unix socket to bind, inherited by the VMM as descriptor 3")
	fs.StringVar(&o.incoming, "incoming", "", "file that the VMM reads through a socket, descriptor 4")
	fs.StringVar(&o.out, "out", "", "directory of the host that the VMM sees read-only as /out")
	fs.IntVar(&o.uid, "uid", 0, "user of the VMM")
	fs.IntVar(&o.gid, "gid", 0, "group of the VMM")
	fs.Uint64Var(&o.nofile, "nofile", 1024, "open files")
	fs.Uint64Var(&o.nproc, "nproc", 256, "threads")
	fs.Uint64Var(&o.fsize, "fsize", 0, "largest size of a file, bytes; 0 = no limit")
	fs.StringVar(&o.seccomp, "seccomp", "enforce", "enforce, learn (log what is not allowed, allow it) or off")
	fs.StringVar(&o.jailer, "jailer", "", "Firecracker's jailer: it jails the command, in a root that is prepared for it")
	fs.StringVar(&o.id, "id", "", "with --jailer: name of the VMM")
	fs.StringVar(&o.fifo, "log-fifo", "", "with --jailer: FIFO to make, seen as /log in there, that goes into --log as well")
	fs.Var(&o.copies, "copy", "with --jailer, SRC:DST:SKIP: a file that the VMM reads a copy of, without the first SKIP bytes")
	fs.Var(&o.binds, "bind", "SRC:DST[:ro], a regular file")
	fs.Var(&o.devices, "dev", "device below /dev, e.g. net/tun")
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	if o.uid <= 0 || o.gid <= 0 || o.root == "" || o.log == "" || o.console == "" || fs.NArg() == 0 {
		return nil, nil, errors.New("--root, --uid, --gid, --log, --console and a command are required")
	}
	if o.jailer != "" && (o.id == "" || o.fifo == "" || o.fsize == 0 || o.netns == "") {
		return nil, nil, errors.New("--jailer needs --id, --log-fifo, --fsize and --netns")
	}
	return &o, fs.Args(), nil
}

// Main is the keeper. It writes the VMM's pid to its standard output once the VMM's process exists, or 'error: …', closes
// it, and ends with the VMM: with its exit status, or by SIGKILL when a signal ended it.
//
//	lohar jail --root DIR --uid N --gid N --log FILE --console FILE [OPTION]… -- VMM ARG…
func Main(args []string) int {
	o, _, err := parse(args)
	if err == nil {
		err = keep(o, args)
	}
	// keep does not return when the VMM ran.
	fmt.Println("error:", err)
	return failed
}

// EnterMain builds the jail around itself and execs the VMM; it returns only on failure.
func EnterMain(args []string) int {
	o, command, err := parse(args)
	switch {
	case err != nil:
	case o.jailer != "":
		err = enterJailer(o, command)
	default:
		err = enter(o, command)
	}
	fmt.Fprintln(os.Stderr, "lohar jail:", err)
	return failed
}

// Package archive is lohar's personality for snapshot archives on the host: it hashes sparse files and unpacks archives of
// strangers, apart from the daemon's thread and memory. A hole costs nothing, nothing is trusted, and killing the process
// ends the work.
package archive

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Facts of one file. Data counts the bytes that are stored: what a copy of the file can take on disk at most.
type Facts struct {
	Size   int64  `json:"size"`
	Data   int64  `json:"data"`
	Sha256 string `json:"sha256"`
}

const usage = `usage: lohar archive digest [-background] FILE...   facts of each file as one JSON object; see digests
       lohar archive unpack DIR                     the zstd-compressed tar on stdin; see Unpack
`

// Exit statuses of unpack: the archive is wrong, the disk is full.
const (
	exitBad  = 1
	exitFull = 3
)

// Main runs "lohar archive ..." and returns its exit status.
func Main(args []string) int {
	if len(args) < 2 || (args[0] == "unpack" && len(args) != 2) {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	var err error
	switch args[0] {
	case "digest":
		err = digests(args[1:], os.Stdout, time.Now)
	case "unpack":
		err = Unpack(os.Stdin, args[1], os.NewFile(3, "limits"), os.Stdout)
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return exitFull
	}
	return exitBad
}

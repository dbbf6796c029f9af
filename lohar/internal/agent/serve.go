package agent

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
)

// ServeMain runs the listener alone, on a developer's machine: nothing of the system is touched.
func ServeMain(args []string) int {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "address")
	tokenFile := fs.String("token-file", "", "file with the token")
	unconfigured := fs.Bool("unconfigured", false, "wait for configure")
	if fs.Parse(args) != nil {
		return 2
	}
	token := ""
	if !*unconfigured {
		b, err := os.ReadFile(*tokenFile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		token = strings.TrimSpace(string(b))
	}
	l, err := net.Listen("tcp4", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening", l.Addr())
	fmt.Fprintln(os.Stderr, NewServer(token, false).Serve(l))
	return 1
}

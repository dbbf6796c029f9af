package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"bhatti/lohar/internal/agent"
	"bhatti/lohar/internal/machine"
)

// serve is the personality for tests without a guest: no mounts, no clock, no names, no power-off.
func serve(args []string) int {
	flags := flag.NewFlagSet("lohar serve", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	tokenFile := flags.String("token-file", "", "file that holds the token")
	unconfigured := flags.Bool("unconfigured", false, "wait for configure, as a guest after its boot")
	beat := flags.Duration("heartbeat", 0, "silence of a request after which the peer is told that it is still served (5s)")
	asSelf := flags.Bool("root-uid", false, "run commands as this user whatever uid is asked for")
	if flags.Parse(args) != nil {
		return 2
	}
	if (*tokenFile == "") != *unconfigured {
		fmt.Fprintln(os.Stderr, "lohar serve: give either --token-file or --unconfigured")
		return 2
	}
	token := ""
	if !*unconfigured {
		b, err := os.ReadFile(*tokenFile)
		if token = strings.TrimSpace(string(b)); err != nil || token == "" {
			fmt.Fprintln(os.Stderr, "lohar serve: the token file is missing or empty")
			return 2
		}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lohar serve:", err)
		return 1
	}
	fmt.Println("listening", l.Addr())
	s := agent.New(agent.Options{
		Version: version, Machine: machine.Recorder{}, Token: token, SwitchUser: os.Geteuid() == 0 && !*asSelf, Heartbeat: *beat,
		Log: func(m string) { fmt.Fprintln(os.Stderr, m) },
	})
	fmt.Fprintln(os.Stderr, "lohar serve:", s.Serve(l))
	return 1
}

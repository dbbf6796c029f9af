// packet sends and hears single packets, for tests of the network: on the host, in namespaces, and in guests, whose image has
// no tools for it. Static, standard library alone. Exit status 0 when it could do what it was told, whatever came of it.
package main

import (
	"fmt"
	"os"
	"strconv"
)

const usage = `packet ping HOST [SOURCE]                  one ICMP echo: pong or silence
packet tcp HOST PORT [MS]                  what a TCP server says: its words, refused or silence
packet serve PORT WORD [ADDRESS]           a TCP server that says WORD and who asks
packet hold HOST PORT N                    opens N connections and keeps them; prints how many are open
packet churn HOST PORT N                   opens N connections one after the other and closes each at once
packet udp HOST FIRST LAST                 a datagram to each port
packet frame IFACE TO FROM SRC DST PORT    an Ethernet frame with a UDP datagram
packet frame6 IFACE TO FROM SRC DST        an Ethernet frame with an ICMPv6 echo
packet arp IFACE FROM SENDER               tells everybody that SENDER has the MAC FROM
packet sniff IFACE MS                      'ready', then each kind of packet that came in
`

var commands = map[string]func(args []string) error{
	"ping": ping, "tcp": tcp, "serve": serve, "hold": hold, "churn": churn, "udp": udp,
	"frame": frame, "frame6": frame6, "arp": arp, "sniff": sniff,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintln(os.Stderr, r)
			os.Exit(2)
		}
	}()
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

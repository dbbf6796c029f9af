package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// tcp prints what HOST says within MS (1500).
func tcp(args []string) error {
	wait := 1500 * time.Millisecond
	if len(args) > 2 {
		wait = time.Duration(number(args[2])) * time.Millisecond
	}
	end := time.Now().Add(wait)
	conn, err := net.DialTimeout("tcp4", net.JoinHostPort(args[0], args[1]), wait)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Println("refused")
		return nil
	case err != nil && err.(net.Error).Timeout():
		fmt.Println("silence")
		return nil
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		fmt.Println("unreachable")
		return nil
	case err != nil:
		return err
	}
	conn.SetReadDeadline(end)
	heard, _ := io.ReadAll(io.LimitReader(conn, 4096))
	if len(heard) == 0 {
		heard = []byte("nothing said")
	}
	fmt.Println(string(heard))
	return nil
}

func serve(args []string) error {
	address := "0.0.0.0"
	if len(args) > 2 {
		address = args[2]
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(address, args[0]))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		fmt.Fprintf(conn, "%s %s", args[1], host)
		conn.Close()
	}
}

// hold opens N connections at the same time; those not answered within 3 s count as not open.
func hold(args []string) error {
	n := number(args[2])
	opened := make(chan net.Conn)
	for range n {
		go func() {
			conn, _ := net.DialTimeout("tcp4", net.JoinHostPort(args[0], args[1]), 3*time.Second)
			opened <- conn
		}()
	}
	held := []net.Conn{}
	for range n {
		if conn := <-opened; conn != nil {
			held = append(held, conn)
		}
	}
	fmt.Println(len(held))
	select {}
}

func churn(args []string) error {
	done := 0
	for range number(args[2]) {
		conn, err := net.DialTimeout("tcp4", net.JoinHostPort(args[0], args[1]), time.Second)
		if err != nil {
			break
		}
		// To the end of what is said: closed earlier it would be reset, which trackers forget at once.
		conn.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, conn)
		conn.Close()
		done++
	}
	fmt.Println(done)
	return nil
}

func udp(args []string) error {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	host := net.ParseIP(args[0])
	for port := number(args[1]); port <= number(args[2]); port++ {
		// An earlier port's 'unreachable', or a full queue: the next one may pass.
		conn.WriteToUDP([]byte("x"), &net.UDPAddr{IP: host, Port: port})
	}
	return nil
}

// Command hostile is what root of a guest can do to its host: it stops the agent (process 1), takes its listening socket and
// answers the daemon in its place. Started as `hostile TOKEN` (root reads the token in the memory of process 1 as well), or
// as `hostile TOKEN ADDRESS` to listen there, for tests without a guest.
// What it answers is decided by what is asked for: the path of a file, the first argument of a command.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	hello, welcome, request, result, failure, heartbeat, proof = 1, 2, 3, 4, 5, 6, 7
	stdout, started, data, end                                 = 0x12, 0x15, 0x20, 0x21
)

var token string

func main() {
	token = os.Args[1]
	take := takeOver
	if len(os.Args) > 2 {
		take = func() (net.Listener, error) { return net.Listen("tcp", os.Args[2]) }
	}
	listener, err := take()
	if err != nil {
		fmt.Println("cannot take over:", err)
		os.Exit(1)
	}
	fmt.Println("taken over", listener.Addr())
	for {
		c, err := listener.Accept()
		if err != nil {
			fmt.Println(err)
			return
		}
		go serve(c)
	}
}

// takeOver stops every thread of process 1 and copies its socket that listens on port 1024; other connections are cut.
func takeOver() (net.Listener, error) {
	stopped := make(chan error)
	go func() {
		runtime.LockOSThread() // a tracer is a thread
		threads, err := os.ReadDir("/proc/1/task")
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			if e := syscall.PtraceAttach(tid); e != nil {
				err = e
				break
			}
			var status syscall.WaitStatus
			_, _ = syscall.Wait4(tid, &status, syscall.WALL, nil)
		}
		stopped <- err
		select {} // the tracer's end would let them go
	}()
	if err := <-stopped; err != nil {
		return nil, err
	}
	pidfd, _, e := syscall.Syscall(434, 1, 0, 0) // pidfd_open
	if e != 0 {
		return nil, e
	}
	fds, err := os.ReadDir("/proc/1/fd")
	if err != nil {
		return nil, err
	}
	var listener net.Listener
	for _, entry := range fds {
		n, _ := strconv.Atoi(entry.Name())
		if target, _ := os.Readlink("/proc/1/fd/" + entry.Name()); !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, _, e := syscall.Syscall(438, pidfd, uintptr(n), 0) // pidfd_getfd
		if e != 0 {
			continue
		}
		listening, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if err != nil || listening == 0 {
			_ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR)
			syscall.Close(int(fd))
			continue
		}
		file := os.NewFile(fd, "socket")
		l, err := net.FileListener(file)
		if a, ok := l.Addr().(*net.TCPAddr); err == nil && ok && a.Port == 1024 {
			listener = l
		}
		file.Close()
	}
	if listener == nil {
		return nil, fmt.Errorf("the socket was not found")
	}
	return listener, nil
}

func send(c io.Writer, kind byte, payload []byte) error {
	head := make([]byte, 5, 5+len(payload))
	binary.BigEndian.PutUint32(head, uint32(len(payload)+1))
	head[4] = kind
	_, err := c.Write(append(head, payload...))
	return err
}

func sendText(c io.Writer, kind byte, text string) error { return send(c, kind, []byte(text)) }

func receive(c io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[:])-1)
	_, err := io.ReadFull(c, payload)
	return head[4], payload, err
}

func prove(label string, host, guest []byte) []byte {
	key := sha256.Sum256([]byte(token))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(label + " 3\x00"))
	mac.Write(host)
	mac.Write(guest)
	return mac.Sum(nil)
}

func serve(c net.Conn) {
	defer c.Close()
	_, payload, err := receive(c)
	if err != nil {
		return
	}
	var greeting struct{ Nonce string }
	_ = json.Unmarshal(payload, &greeting)
	host, _ := hex.DecodeString(greeting.Nonce)
	guest := make([]byte, 32)
	_ = sendText(c, welcome, fmt.Sprintf(`{"v":3,"agent":"hostile","configured":true,"generation":1,"nonce":"%x","proof":"%x"}`,
		guest, prove("bhatti guest", host, guest)))
	for {
		kind, payload, err := receive(c)
		if err != nil {
			return
		}
		if kind == request {
			var r map[string]any
			_ = json.Unmarshal(payload, &r)
			answer(c, r)
		}
	}
}

// answer does what the request names; an honest guess for anything else, so that the daemon's own business goes on.
func answer(c net.Conn, r map[string]any) {
	what := fmt.Sprint(r["path"])
	if argv, ok := r["argv"].([]any); ok && len(argv) > 0 {
		what = fmt.Sprint(argv[0])
	}
	if trick, ok := tricks[strings.TrimPrefix(what, "/")]; ok {
		trick(c)
		return
	}
	switch r["op"] {
	case "activity":
		_ = sendText(c, result, `{"idle_ms":-1e308,"execs":"many","detached":1e308,"init_running":{"a":[]},"connections":null,"busy_ms":-5,"uptime_ms":"x"}`)
	case "ports":
		_ = sendText(c, result, `{"ports":[`+strings.Repeat(`{"port":80,"address":"x"},`, 38000)+`{"port":"\u0000"}]}`)
	case "exec":
		_ = sendText(c, started, `{"pid":1}`)
		_ = sendText(c, stdout, "hostile\n")
		_ = sendText(c, result, `{"exit_code":0}`)
	default:
		_ = sendText(c, result, `{}`)
	}
}

func forever(c net.Conn, kind byte, payload []byte) {
	for send(c, kind, payload) == nil {
	}
}

func entries(n int) []byte {
	name := strings.Repeat("n", 900)
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"name":"%s%d","kind":"file","size":1,"mode":"0644","uid":0,"gid":0,"links":1,"mtime":1}`, name, i)
	}
	return []byte("[" + strings.Join(all, ",") + "]")
}

const short = `{"name":"","kind":"","size":0,"mode":"","uid":0,"gid":0,"links":0,"mtime":0}`

var tricks = map[string]func(net.Conn){
	"list-forever": func(c net.Conn) { forever(c, data, entries(250)) },
	"list-short-names": func(c net.Conn) {
		forever(c, data, []byte("["+strings.Repeat(short+",", 2000)+short+"]"))
	},
	"list-nested":   func(c net.Conn) { _ = send(c, data, []byte(strings.Repeat("[", 1<<18-1))) },
	"list-not-json": func(c net.Conn) { _ = send(c, data, make([]byte, 1<<18)) },
	"read-forever": func(c net.Conn) {
		_ = sendText(c, started, `{"size":5,"mode":"0644","length":5}`)
		forever(c, data, make([]byte, 1<<18))
	},
	"read-endless": func(c net.Conn) {
		_ = sendText(c, started, `{"size":1000000000000000,"mode":"0644","length":1000000000000000}`)
		forever(c, data, make([]byte, 1<<18))
	},
	"read-lies": func(c net.Conn) { _ = sendText(c, started, `{"size":-1e300,"mode":{},"length":"x"}`) },
	"read-negative": func(c net.Conn) {
		_ = sendText(c, started, `{"size":-5,"mode":"`+strings.Repeat("9", 1000)+`","length":-7}`)
		_ = send(c, end, nil)
		_ = sendText(c, result, `{}`)
	},
	"output-forever":  func(c net.Conn) { _ = sendText(c, started, `{"pid":1}`); forever(c, stdout, make([]byte, 1<<15)) },
	"empty-forever":   func(c net.Conn) { _ = sendText(c, started, `{"pid":1}`); forever(c, stdout, nil) },
	"started-forever": func(c net.Conn) { forever(c, started, []byte(`{"pid":1}`)) },
	"beats-forever":   func(c net.Conn) { forever(c, heartbeat, nil) },
	"beats-slowly": func(c net.Conn) {
		for send(c, heartbeat, nil) == nil {
			time.Sleep(time.Second)
		}
	},
	"frame-huge":    func(c net.Conn) { _, _ = c.Write([]byte{0xff, 0xff, 0xff, 0xff, result}) },
	"frame-empty":   func(c net.Conn) { _, _ = c.Write([]byte{0, 0, 0, 0, result}) },
	"frame-unknown": func(c net.Conn) { _ = send(c, 0x7f, []byte("x")) },
	"frame-half":    func(c net.Conn) { _, _ = c.Write([]byte{0, 1, 0, 0, result, '{'}); time.Sleep(time.Hour) },
	"result-twice": func(c net.Conn) {
		_ = sendText(c, result, `{"exit_code":0}`)
		_ = sendText(c, result, `{"exit_code":0}`)
	},
	"result-garbage": func(c net.Conn) {
		_ = sendText(c, result, `{"exit_code":{"__proto__":[]},"signal":`+strings.Repeat("[", 100000))
	},
	"result-array": func(c net.Conn) { _ = sendText(c, result, `[1,2,3]`) },
	"result-wrong": func(c net.Conn) { _ = sendText(c, result, `{"exit_code":"zero","signal":{"a":1},"timed_out":"yes"}`) },
	"error-huge": func(c net.Conn) {
		_ = sendText(c, failure, `{"code":"`+strings.Repeat("x", 500000)+`","message":"`+strings.Repeat(`\u0007<script>`, 30000)+`"}`)
	},
	"error-ours": func(c net.Conn) {
		_ = sendText(c, failure, `{"code":"unauthorized","message":"internal error of the daemon"}`)
	},
	"hang-up": func(c net.Conn) { c.Close() },
}

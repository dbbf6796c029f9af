package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"

	"bhatti/lohar/internal/proto"
)

type process struct {
	Pid   int    `json:"pid"`
	PPid  int    `json:"ppid"`
	UID   int    `json:"uid"`
	State string `json:"state"`
	// RSS in KiB.
	RSS int `json:"rss_kb"`
	// Argv, or the name in brackets for what has none; joined by blanks, at most maxArgv bytes.
	Argv string `json:"argv"`
}

const maxArgv = 4096

// processes lists what runs, without a process of its own: it works at any user's limit. Kernel threads are left out.
func processes(c *conn, _ []byte) (any, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	count := 0
	for {
		names, err := proc.Readdirnames(256)
		if len(names) == 0 {
			if err != nil && err != io.EOF {
				return nil, err
			}
			break
		}
		batch := []process{}
		size := 0
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			p, ok := readProcess("/proc/"+name, pid)
			if !ok {
				continue
			}
			batch = append(batch, p)
			if size += 6*len(p.Argv) + 200; size > batchBytes { // 6: the longest form of a byte in JSON
				if err := c.sendBatch(batch); err != nil {
					return nil, err
				}
				batch, size = batch[:0], 0
			}
			count++
		}
		if err := c.sendBatch(batch); err != nil {
			return nil, err
		}
	}
	if err := c.send(proto.End, nil); err != nil {
		return nil, err
	}
	return map[string]int{"count": count}, nil
}

func (c *conn) sendBatch(batch []process) error {
	if len(batch) == 0 {
		return nil
	}
	payload, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	return c.send(proto.Data, payload)
}

// readProcess reads status and cmdline; false for one that is gone, and for kernel threads.
func readProcess(dir string, pid int) (p process, ok bool) {
	b, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, false
	}
	p = process{Pid: pid}
	name := ""
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		switch key {
		case "Name":
			name = strings.TrimSpace(value)
		case "State":
			p.State = f[0]
		case "PPid":
			p.PPid, _ = strconv.Atoi(f[0])
		case "Uid":
			p.UID, _ = strconv.Atoi(f[0])
		case "VmRSS":
			p.RSS, _ = strconv.Atoi(f[0])
		}
	}
	if p.PPid == 2 || pid == 2 { // kthreadd and its children
		return p, false
	}
	f, err := os.Open(dir + "/cmdline")
	if err != nil {
		return p, false
	}
	defer f.Close()
	argv, _ := io.ReadAll(io.LimitReader(f, maxArgv))
	if p.Argv = strings.ToValidUTF8(string(bytes.ReplaceAll(bytes.TrimRight(argv, "\x00"), []byte{0}, []byte{' '})), "\ufffd"); p.Argv == "" {
		p.Argv = "[" + name + "]"
	}
	return p, true
}

package boot

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"bhatti/lohar/internal/machine"
)

// cgroups enables the controllers and makes the group that all user processes live in.
func cgroups() (failed []error) {
	for _, c := range []string{"cpu", "memory", "io", "pids"} { // one by one: a missing one must not cost the others
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+"+c), 0); err != nil {
			failed = append(failed, fmt.Errorf("cgroup controller %s: %w", c, err))
		}
	}
	if err := os.MkdirAll(machine.UserCgroup, 0o755); err != nil {
		return append(failed, err)
	}
	// A fork bomb must leave numbers and threads for the agent: without a thread it dies, and the machine with it.
	limit := readInt("/proc/sys/kernel/threads-max")
	if n := readInt("/proc/sys/kernel/pid_max"); n < limit {
		limit = n
	}
	if limit > 256 {
		if err := os.WriteFile(machine.UserCgroup+"/pids.max", []byte(strconv.Itoa(limit*3/4)), 0); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

func readInt(path string) int {
	b, _ := os.ReadFile(path)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

package machine

import (
	"errors"
	"os"
	"strings"
	"time"
)

// FreezeUser stops the user cgroup and waits until the kernel says that it stands still (cgroup-v2.rst, cgroup.freeze).
func (r *Real) FreezeUser(limit time.Duration) error {
	if err := os.WriteFile(UserCgroup+"/cgroup.freeze", []byte("1"), 0); err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		b, err := os.ReadFile(UserCgroup + "/cgroup.events")
		if err != nil {
			return err
		}
		if strings.Contains(string(b), "frozen 1") {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("a user process does not stand still")
		}
		time.Sleep(pause)
	}
}

// ThawUser lets user processes run.
func (r *Real) ThawUser() error {
	return os.WriteFile(UserCgroup+"/cgroup.freeze", []byte("0"), 0)
}

func populated() bool {
	b, err := os.ReadFile(UserCgroup + "/cgroup.events")
	return err == nil && strings.Contains(string(b), "populated 1")
}

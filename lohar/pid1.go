package main

import (
	"fmt"
	"os"

	"bhatti/lohar/internal/agent"
	"bhatti/lohar/internal/boot"
	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/initctl"
	"bhatti/lohar/internal/machine"
	"golang.org/x/sys/unix"
)

// pid1 runs the guest. It does not return: a machine without its agent is turned off.
func pid1() {
	// On the console before anything can fail: proof that this kernel runs programs (the host's probe waits for it).
	fmt.Println("lohar:", version)
	log := kernelLog()
	r, err := boot.Boot()
	if err == nil {
		err = runAgent(r, log)
	}
	fmt.Fprint(os.Stderr, machine.ConsoleLine("failed", "agent", fmt.Sprint("the guest cannot run: ", err)))
	unix.Sync()
	_ = unix.Reboot(machine.OffCommand())
	select {}
}

func runAgent(r *boot.Result, log func(string)) error {
	m, err := machine.NewReal(r.Arguments)
	if err != nil {
		return err
	}
	s := agent.New(agent.Options{Version: version, Machine: m, SwitchUser: true, RemoteOnly: true, Log: log})
	if err := initctl.Watch(r.Signals, s.EndByGuest); err != nil {
		r.Warnings = append(r.Warnings, err)
	}
	for _, path := range files.Tidy() {
		r.Warnings = append(r.Warnings, fmt.Errorf("an upload that was cut off was removed: %s", path))
	}
	go func() {
		for _, w := range r.Warnings {
			log(w.Error())
		}
		log("boot, ms since the kernel started:" + r.Trace)
	}()
	return s.Serve(r.Listener)
}

// kernelLog writes to the kernel's log, which the serial console shows unless the kernel is quiet.
func kernelLog() func(string) {
	return func(message string) {
		f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, "lohar:", message)
			return
		}
		defer f.Close()
		fmt.Fprintf(f, "<6>lohar: %.900s\n", message)
	}
}

// Package jail is the host-side launcher that puts a VMM into its jail.
package jail

import (
	"fmt"
	"os"
)

// Main runs `lohar jail` with the arguments after "jail" and returns the exit code.
func Main(args []string) int {
	fmt.Fprintln(os.Stderr, "lohar jail: not built into this executable")
	return 2
}

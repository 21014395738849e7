//go:build !linux

package sim

import "os"

// die ends this process. Death by signal is simulated by its shell code where signals cannot be reset.
func die(how string, code int) {
	switch how {
	case "kill":
		code = 128 + 9
	case "abort":
		code = 128 + 6
	case "segv":
		code = 128 + 11
	}
	os.Exit(code)
}

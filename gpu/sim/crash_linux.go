package sim

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// die ends this process as a crashing Python process would end: by exit code or by signal.
func die(how string, code int) {
	signals := map[string]syscall.Signal{"kill": syscall.SIGKILL, "abort": syscall.SIGABRT, "segv": syscall.SIGSEGV}
	sig, ok := signals[how]
	if !ok {
		os.Exit(code)
	}
	// Go's runtime handles these signals itself and would exit with code 2; the default action is what a supervisor sees.
	var def struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&def)), 0, unsafe.Sizeof(def.mask), 0, 0)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second) // the signal may be delivered to another thread
	os.Exit(128 + int(sig))
}

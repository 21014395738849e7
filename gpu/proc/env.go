package proc

import (
	"os"
	"slices"
	"strings"
)

var (
	envNames = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}
	// envPrefixes are what CUDA, the driver and the locale read.
	envPrefixes = []string{"LC_", "CUDA_", "NVIDIA_"}
	// envSecrets mark names that hold a credential although their prefix is allowed: NVIDIA_API_KEY is one.
	envSecrets = []string{"KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL"}
)

// BaseEnv is the part of our own environment that a worker may have: what programs need to run, and no keys, passwords
// or database addresses. The caller adds to it.
func BaseEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); allowed(name) {
			env = append(env, kv)
		}
	}
	return env
}

func allowed(name string) bool {
	if slices.Contains(envNames, name) {
		return true
	}
	has := func(p string) bool { return strings.HasPrefix(name, p) }
	holds := func(s string) bool { return strings.Contains(name, s) }
	return slices.ContainsFunc(envPrefixes, has) && !slices.ContainsFunc(envSecrets, holds)
}

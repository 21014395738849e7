package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Rate is requests per minute; 0 is no limit ("off").
type Rate int

// UnmarshalText reads "10/min" or "off".
func (r *Rate) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "off" {
		*r = 0
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "/min"))
	if err != nil || n < 1 || !strings.HasSuffix(s, "/min") {
		return fmt.Errorf("%q is no rate: write 10/min, or off", s)
	}
	*r = Rate(n)
	return nil
}

func (r Rate) String() string {
	if r == 0 {
		return "off"
	}
	return fmt.Sprintf("%d/min", int(r))
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Bytes is a size in bytes.
type Bytes uint64

var byteUnits = []struct {
	suffix string
	factor uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a whole number with an optional unit: B, KiB, MiB, GiB or TiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, factor := strings.TrimSpace(string(text)), uint64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > (1<<63)/factor {
		return fmt.Errorf("%q is no size: write 500MiB or 2GiB", text)
	}
	*b = Bytes(n * factor)
	return nil
}

func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b > 0 && uint64(b)%u.factor == 0 {
			return fmt.Sprintf("%d%s", uint64(b)/u.factor, u.suffix)
		}
	}
	return "0B"
}

// MarshalText writes what UnmarshalText reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

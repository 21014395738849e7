package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"comfyfleet/views"
)

// clock is a duration as pages show it: 0:48, 59:59, 1 h 12 min, 3 d 4 h. static/js/time.js writes the same.
func clock(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 3600:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// took is a measured time: 6.1 s under a minute, 2:04 above.
func took(d time.Duration) views.Quantity {
	d = max(0, d)
	switch {
	case d == 0:
		return views.Quantity{Value: "0", Unit: "s"}
	case d < 10*time.Millisecond:
		return views.Quantity{Value: "0.01", Unit: "s"}
	case d < 100*time.Millisecond:
		return views.Quantity{Value: strconv.FormatFloat(d.Seconds(), 'f', 2, 64), Unit: "s"}
	case d < time.Minute:
		return views.Quantity{Value: strconv.FormatFloat(d.Seconds(), 'f', 1, 64), Unit: "s"}
	}
	return views.Quantity{Value: clock(d)}
}

func tookText(d time.Duration) string { return joined(took(d)) }

func joined(q views.Quantity) string {
	if q.Unit == "" {
		return q.Value
	}
	return q.Value + " " + q.Unit
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// count writes thousands apart: 1 255.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u00a0" + s[i:]
	}
	return s
}

// capped writes a count that stops at limit: 1 000+.
func capped(n, limit int) string {
	if n > limit {
		return count(limit) + "+"
	}
	return count(n)
}

// plural is "1 job", "3 jobs".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

// size is bytes in decimal units with a unit: 1.7 MB.
func size(bytes int64) string { return joined(sizeOf(bytes)) }

func sizeOf(bytes int64) views.Quantity {
	switch b := float64(bytes); {
	case bytes < 1000:
		return views.Quantity{Value: strconv.FormatInt(bytes, 10), Unit: "B"}
	case b < 999_950:
		return views.Quantity{Value: short(b / 1e3), Unit: "kB"}
	case b < 999_950_000:
		return views.Quantity{Value: short(b / 1e6), Unit: "MB"}
	default:
		return views.Quantity{Value: strconv.FormatFloat(b/1e9, 'f', 1, 64), Unit: "GB"}
	}
}

// short keeps two digits of what is small.
func short(f float64) string {
	if f < 10 {
		return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

func percent(part, whole int64) int {
	if whole <= 0 {
		return 0
	}
	return int(100 * part / whole)
}

// share is a CSS percentage for SVG attributes.
func share(f float64) string {
	return strconv.FormatFloat(min(100, max(0, 100*f)), 'f', 2, 64) + "%"
}

const exactForm = "2 Jan 2006, 15:04:05 MST"

// moment is a time that stays as it is written.
func moment(t time.Time, text string) views.Time {
	t = t.UTC()
	return views.Time{Text: text, ISO: t.Format(time.RFC3339), Exact: t.Format(exactForm)}
}

// since is a time whose age the browser keeps current.
func since(t, now time.Time, suffix string) views.Time {
	v := moment(t, clock(now.Sub(t)))
	v.Tick, v.Suffix = "age", suffix
	return v
}

// runs is a running time that the browser keeps current, in the form of took.
func runs(t, now time.Time) views.Time {
	v := moment(t, tookText(now.Sub(t)))
	v.Tick = "ran"
	return v
}

// until is a countdown.
func until(t, now time.Time) views.Time {
	v := moment(t, clock(t.Sub(now)))
	v.Tick = "left"
	return v
}

// shortID is how lists show an id.
func shortID(id string) string { return id[:min(8, len(id))] }

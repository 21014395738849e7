package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is one line of the table.
type figure struct {
	name string
	// value is what was measured, against what it is compared with, both with their units.
	value, against string
	// ratio is the one divided by the other; 0 for none.
	ratio float64
	// aim is what we want, "" for a figure that is only shown; met says whether it was reached.
	aim string
	met bool
}

func printTable(w io.Writer, figures []figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tFIGURE\tAGAINST\tRATIO\tAIM\tMET")
	for _, f := range figures {
		ratio, met := "–", "–"
		if f.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.ratio)
		}
		if f.aim != "" {
			met = "no"
			if f.met {
				met = "yes"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.name, f.value, cmp.Or(f.against, "–"), ratio, cmp.Or(f.aim, "–"), met)
	}
	return t.Flush()
}

// times are the durations of many like things.
type times []time.Duration

// at is the duration that a share of them does not exceed, 0.5 for the median; 0 when there are none.
func (t times) at(share float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Clone(t)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond && d > -10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

func rate(perSecond float64) string { return fmt.Sprintf("%.0f/s", perSecond) }

// mb is a size in MB of 10^6 bytes.
func mb(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
